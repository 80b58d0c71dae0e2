using System.Net;

namespace MendCluster.Server;

/// <summary>
/// How a server listens, whom it lets in, and how much it takes. In a silo's settings it is the section <c>Mend:Server</c>.
/// </summary>
public sealed record ServerSettings
{
    /// <summary>Where the API and the console are.</summary>
    /// <value>127.0.0.1: this machine alone.</value>
    public string Address { get; init; } = "127.0.0.1";

    /// <value>8080; 0: any that is free.</value>
    public int Port { get; init; } = 8080;

    /// <summary>Where health and metrics are, which ask for no key: for the machines that watch this one.</summary>
    /// <value>127.0.0.1.</value>
    public string ManagementAddress { get; init; } = "127.0.0.1";

    /// <value>8081; 0: any that is free.</value>
    public int ManagementPort { get; init; } = 8081;

    /// <summary>The file of API keys; see <see cref="Security.ApiKeys"/>.</summary>
    public string? Keys { get; init; }

    /// <summary>
    /// Lets whoever is on this machine do everything without a key. Only where <see cref="Address"/> is a loopback address.
    /// </summary>
    public bool Anonymous { get; init; }

    /// <summary>Tokens of an OpenID Connect issuer are let in beside keys.</summary>
    public OidcSettings? Oidc { get; init; }

    /// <summary>Without it the API is plain HTTP.</summary>
    public TlsSettings? Tls { get; init; }

    public LimitSettings Limits { get; init; } = new();

    /// <summary>Folder of training data and runs. Null: no training is taken over HTTP.</summary>
    public string? Trainings { get; init; }

    /// <summary>Where traces and metrics are sent by OTLP (gRPC), such as http://collector:4317. Null: nowhere.</summary>
    public string? Otlp { get; init; }

    /// <summary>Writes prompts and targets into the log.</summary>
    public bool LogTexts { get; init; }

    /// <summary>How long a server that was told to stop still takes requests, while it already says that it is not ready.</summary>
    /// <value>0.</value>
    public TimeSpan Drain { get; init; }

    /// <summary>How long requests that are under way may take after that.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan ShutdownTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Why a server cannot be started so: each begins with the setting's name.</summary>
    public IEnumerable<string> Faults()
    {
        const int maxPort = ushort.MaxValue;
        foreach (var (name, address) in new[] { (nameof(Address), Address), (nameof(ManagementAddress), ManagementAddress) })
            if (!IPAddress.TryParse(address, out _))
                yield return $"{name} is '{address}'; it is an IP address, 0.0.0.0 for all of this machine's";
        foreach (var (name, port) in new[] { (nameof(Port), Port), (nameof(ManagementPort), ManagementPort) })
            if (port is < 0 or > maxPort)
                yield return $"{name} is {port}; it is from 0 to {maxPort}";
        if (Port != 0 && Port == ManagementPort)
            yield return $"{nameof(ManagementPort)} is {ManagementPort}, and so is {nameof(Port)}; they are two ports";
        if (Anonymous && !(IPAddress.TryParse(Address, out var own) && IPAddress.IsLoopback(own)))
            yield return $"{nameof(Anonymous)} is true, and {nameof(Address)} is {Address}; without keys a server listens on a loopback address alone, such as 127.0.0.1";
        if (Anonymous && (Keys is not null || Oidc is not null))
            yield return $"{nameof(Anonymous)} is true, and keys or tokens are asked for too; leave one out";
        if (Oidc is { } oidc)
            foreach (var fault in oidc.Faults())
                yield return $"{nameof(Oidc)}:{fault}";
        if (Tls is { } tls && (tls.Certificate.Length == 0 || tls.Key.Length == 0))
            yield return $"{nameof(Tls)} has no Certificate or no Key; both are PEM files";
        foreach (var fault in Limits.Faults())
            yield return $"{nameof(Limits)}:{fault}";
        if (Trainings is not null && !Directory.Exists(Trainings))
            yield return $"{nameof(Trainings)} is '{Trainings}'; there is no such folder";
        if (Otlp is not null && !(Uri.TryCreate(Otlp, UriKind.Absolute, out var collector) && collector.Scheme is "http" or "https"))
            yield return $"{nameof(Otlp)} is '{Otlp}'; it is an address such as http://collector:4317";
        foreach (var (name, time) in new[] { (nameof(Drain), Drain), (nameof(ShutdownTimeout), ShutdownTimeout) })
            if (time < TimeSpan.Zero)
                yield return $"{name} is {time}; it is 0 or more";
    }
}

/// <summary>The issuer whose tokens are let in. A token's scopes mend.read, mend.edit and mend.admin are its rights.</summary>
public sealed record OidcSettings
{
    /// <summary>The issuer's address; its keys are found from there.</summary>
    public string Authority { get; init; } = "";

    /// <summary>Whom tokens have to be for.</summary>
    public string Audience { get; init; } = "";

    /// <summary>The claim that is the caller's name, in the ledger behind <c>oidc:</c>.</summary>
    /// <value>sub.</value>
    public string NameClaim { get; init; } = "sub";

    internal IEnumerable<string> Faults()
    {
        if (!Uri.TryCreate(Authority, UriKind.Absolute, out var authority)
            || !(authority.Scheme == "https" || (authority.Scheme == "http" && authority.IsLoopback)))
            yield return $"{nameof(Authority)} is '{Authority}'; it is an https address";
        if (Audience.Length == 0)
            yield return $"{nameof(Audience)} is missing; it is whom tokens have to be for";
        if (NameClaim.Length == 0)
            yield return $"{nameof(NameClaim)} is empty";
    }
}

/// <summary>PEM files; they are read again when they change.</summary>
public sealed record TlsSettings
{
    /// <summary>The certificate and those between it and its authority.</summary>
    public string Certificate { get; init; } = "";

    /// <summary>Its private key.</summary>
    public string Key { get; init; } = "";
}

/// <summary>What is more is answered with <see cref="Contracts.MendError.TooBusy"/>, <see cref="Contracts.MendError.InvalidRequest"/> or
/// <see cref="Contracts.MendError.TimedOut"/>.</summary>
public sealed record LimitSettings
{
    /// <summary>Of one caller; for a moment twice as many.</summary>
    /// <value>500.</value>
    public int RequestsPerSecond { get; init; } = 500;

    /// <summary>Of one caller at a time, streams among them.</summary>
    /// <value>128.</value>
    public int RequestsAtOnce { get; init; } = 128;

    /// <summary>Edits, previews and reverts of all callers, under way or waiting for their turn.</summary>
    /// <value>64.</value>
    public int WaitingEdits { get; init; } = 64;

    /// <summary>Bytes of a request's body.</summary>
    /// <value>1 MiB.</value>
    public int BodyBytes { get; init; } = 1 << 20;

    /// <summary>Tokens of an answer, at most: what is asked for beyond it is refused.</summary>
    /// <value>4096.</value>
    public int AnswerTokens { get; init; } = 4096;

    /// <summary>For an edit, a preview or a revert, waiting for its turn included.</summary>
    /// <value>10 minutes.</value>
    public TimeSpan EditTimeout { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>For every other request but the stream of a training.</summary>
    /// <value>2 minutes.</value>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(2);

    internal IEnumerable<string> Faults()
    {
        foreach (var (name, number) in new[]
        {
            (nameof(RequestsPerSecond), RequestsPerSecond), (nameof(RequestsAtOnce), RequestsAtOnce), (nameof(WaitingEdits), WaitingEdits),
                (nameof(BodyBytes), BodyBytes),
            (nameof(AnswerTokens), AnswerTokens),
        })
            if (number < 1)
                yield return $"{name} is {number}; it is at least 1";
        foreach (var (name, time) in new[] { (nameof(EditTimeout), EditTimeout), (nameof(Timeout), Timeout) })
            if (time <= TimeSpan.Zero)
                yield return $"{name} is {time}; it is more than 0";
    }
}
