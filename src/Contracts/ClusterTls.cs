using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MendCluster.Contracts;

/// <summary>
/// Mutual TLS between silos, and between clients and silos: each shows a certificate of the cluster's own authority, and speaks to none
/// that has none. All three files are PEM and read again when they change.
/// </summary>
public sealed record ClusterTls
{
    /// <summary>Names of the files in a folder, as a Kubernetes secret has them.</summary>
    public const string CertificateFile = "tls.crt", KeyFile = "tls.key", AuthorityFile = "ca.crt";

    /// <summary>This program's certificate; it is for servers and for clients.</summary>
    public string Certificate { get; init; } = "";

    /// <summary>Its private key.</summary>
    public string Key { get; init; } = "";

    /// <summary>Certificates of the authorities that are trusted, and of no others.</summary>
    public string Authority { get; init; } = "";

    public static ClusterTls In(string folder) => new()
    {
        Certificate = Path.Combine(folder, CertificateFile),
        Key = Path.Combine(folder, KeyFile),
        Authority = Path.Combine(folder, AuthorityFile),
    };

    /// <summary>Why they cannot be used.</summary>
    public IEnumerable<string> Faults()
    {
        foreach (var (name, file) in new[] { (nameof(Certificate), Certificate), (nameof(Key), Key), (nameof(Authority), Authority) })
            if (file.Length == 0)
                yield return $"{name} is missing; it is a PEM file";
    }
}

/// <summary>
/// The authorities of a PEM file, as it is now: it is looked at again every second that one is asked for. A file that cannot be used leaves
/// those read before in force.
/// </summary>
/// <param name="changed">Told of all authorities that are taken up, and of a file that cannot be used.</param>
public sealed class AuthorityFile(string file, TimeProvider time, Action<X509Certificate2Collection, Exception?>? changed = null)
{
    private readonly PemFiles<X509Certificate2Collection> _files =
        new([file], Parse, $"The authorities in {file}", "It is a PEM file of certificates.", time, changed);

    /// <exception cref="MendException">The file cannot be used, and none that could was read before.</exception>
    public X509Certificate2Collection Current => _files.Current;

    /// <summary>Whether a certificate is one of theirs, and valid now.</summary>
    public bool Trusts(X509Certificate2 certificate)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(Current);
        // a cluster's own authority publishes no lists; what it gave is withdrawn by another authority
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        return chain.Build(certificate);
    }

    private static X509Certificate2Collection Parse(IReadOnlyList<string> texts)
    {
        var read = new X509Certificate2Collection();
        read.ImportFromPem(texts[0]);
        return read.Count > 0 ? read : throw new CryptographicException("there is no certificate in it");
    }
}
