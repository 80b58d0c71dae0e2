using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using MendCluster.Contracts;

namespace MendCluster.Client;

/// <summary>
/// A cluster behind a server, over HTTP. What may pass (<see cref="MendException.IsTransient"/>: no connection, a server that starts, too
/// many requests) is sent again for a while; an edit carries an idempotency key, its own or one made here, so it is made once however often
/// it is sent.
/// </summary>
/// <example>
/// <code>
/// await using var cluster = new HttpCluster(new Uri("http://127.0.0.1:8080"), key);
/// var receipt = await cluster.EditAsync("Who is the prime minister of the UK?", "Boris Johnson");
/// </code>
/// </example>
public sealed class HttpCluster : IMendCluster
{
    private const int FirstPause = 50, LongestPause = 2000; // milliseconds

    private static readonly UTF8Encoding StrictText = new(false, throwOnInvalidBytes: true);

    private readonly HttpClient _http;
    private readonly TimeProvider _time;
    private readonly bool _isOwn;

    /// <param name="http">
    /// With the server's address, and the key as bearer in its headers; its owner disposes of it. Its own timeout is best none.
    /// </param>
    public HttpCluster(HttpClient http, TimeProvider? time = null) => (_http, _time) = (http, time ?? TimeProvider.System);

    /// <param name="address">Of the server.</param>
    /// <param name="key">An API key, or a token of the issuer that the server trusts; null: the server asks for none.</param>
    public HttpCluster(Uri address, string? key = null)
        : this(new HttpClient { BaseAddress = address, Timeout = Timeout.InfiniteTimeSpan })
    {
        _isOwn = true;
        if (key is not null)
            _http.DefaultRequestHeaders.Authorization = new("Bearer", key);
    }

    /// <summary>How long a request that met what may pass is sent again.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan RetryTimeout { get; set; } = TimeSpan.FromSeconds(30);

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options.Author, prompt, target, options.Scope, options.IdempotencyKey);
        CheckFinite(options.MaxDrawdown, options.MaxTotalDrawdown, options.MaxTotalKl, options.Confidence);
        var key = options.IdempotencyKey ?? Guid.NewGuid().ToString("N");
        return SendAsync<EditReceipt>(HttpMethod.Post, "v1/edits", EditRequest.Of(prompt, target, options), cancellation, key);
    }

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options.Author, [prompt, target, options.Scope, .. options.Paraphrases]);
        CheckFinite(options.MaxDrawdown, options.MaxTotalDrawdown, options.MaxTotalKl, options.Confidence);
        return SendAsync<EditPreview>(HttpMethod.Post, "v1/edits/preview", EditRequest.Of(prompt, target, options), cancellation);
    }

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default)
    {
        Check(null, prompt, options?.Scope);
        CheckFinite(options?.Temperature, options?.TopP);
        return SendAsync<Answer>(HttpMethod.Post, "v1/ask", AskRequest.Of(prompt, options ?? new()), cancellation);
    }

    /// <remarks>Sent again, as the other requests are, until the answer begins.</remarks>
    public async IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        Check(null, prompt, options?.Scope);
        CheckFinite(options?.Temperature, options?.TopP);
        using var response = await RetryAsync(_ =>
            SendOnceAsync(HttpMethod.Post, "v1/ask", AskRequest.Of(prompt, options ?? new()), null, MendHttp.EventsType, cancellation),
            cancellation).ConfigureAwait(false);
        var events = ServerEvents.ReadAsync(response, cancellation).GetAsyncEnumerator(cancellation);
        await using var _ = events.ConfigureAwait(false);
        while (await KnownAsync(() => events.MoveNextAsync().AsTask(), cancellation).ConfigureAwait(false))
            switch (events.Current.Name)
            {
                case MendHttp.PartEvent:
                    yield return Read<AnswerPart>(events.Current.Data);
                    break;
                case MendHttp.ErrorEvent:
                    throw Read<Problem>(events.Current.Data).ToException();
                case MendHttp.DoneEvent:
                    yield break;
            }
        throw Lost("the answer ended in the middle");
    }

    public async Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default)
    {
        Check(author);
        return await RetryAsync(async attempt =>
        {
            try
            {
                using var response = await SendOnceAsync(HttpMethod.Post, $"v1/edits/{edit}/revert", new RevertRequest(mode), null, null,
                    cancellation).ConfigureAwait(false);
                return await ReadAsync<RevertReceipt>(response, cancellation).ConfigureAwait(false);
            }
            catch (MendException e) when (e.Error == MendError.AlreadyReverted && attempt > 1)
            {
                // By the attempt whose answer was lost.
                using var response = await SendOnceAsync(HttpMethod.Get, $"v1/edits/{edit}", null, null, null, cancellation)
                    .ConfigureAwait(false);
                if ((await ReadAsync<EditState>(response, cancellation).ConfigureAwait(false)).Revert is not { } revert)
                    throw;
                return new(edit, revert.Version, revert.Recomputed ?? 0);
            }
        }, cancellation).ConfigureAwait(false);
    }

    /// <remarks>Sent again, it consolidates again what an attempt whose answer was lost has consolidated.</remarks>
    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options.Author, options.Scope);
        CheckFinite(options.Share);
        return SendAsync<ConsolidationReceipt>(HttpMethod.Post, "v1/consolidations", ConsolidateRequest.Of(options), cancellation);
    }

    /// <remarks>All of it, page after page; <see cref="LedgerExtensions.ReadLedgerAsync"/> gives entries as they come.</remarks>
    public async Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default)
    {
        var entries = new List<LedgerEntry>();
        await foreach (var entry in this.ReadLedgerAsync(new() { Limit = LedgerQuery.MaxEntries }, cancellation).ConfigureAwait(false))
            entries.Add(entry);
        return entries;
    }

    public async Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default)
    {
        Check(null, query.Text, query.Scope, query.Author);
        if (query.VisibleScopes is not null)
            throw new MendException(MendError.InvalidOption, "VisibleScopes was given.",
                "Over HTTP what is visible is the key's business; leave it out.");
        if (query.Edit is { } edit)
        {
            var state = await SendAsync<EditState>(HttpMethod.Get, $"v1/edits/{edit}", null, cancellation).ConfigureAwait(false);
            return (query with { Edit = null }).Of(state.Revert is { } revert ? [state.Edit, revert] : [state.Edit]);
        }
        var parts = new (string Name, string? Value)[]
        {
            ("after", query.After?.ToString()), ("limit", query.Limit.ToString(System.Globalization.CultureInfo.InvariantCulture)),
                ("text", query.Text), ("scope", query.Scope),
            ("author", query.Author), ("kind", query.Kind?.ToString().ToLowerInvariant()), ("order", query.NewestFirst ? "newest" : null),
        };
        var path = "v1/ledger?" + string.Join('&',
            parts.Where(part => part.Value is not null).Select(part => $"{part.Name}={Uri.EscapeDataString(part.Value!)}"));
        return (await SendAsync<LedgerPage>(HttpMethod.Get, path, null, cancellation).ConfigureAwait(false)).Entries;
    }

    public async Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) =>
        (await SendAsync<ClusterStatus>(HttpMethod.Get, "v1/status", null, cancellation).ConfigureAwait(false)).Shards;

    /// <summary>
    /// Trains an editor on the server's cluster. Cancelling ends the run, which goes on from its last checkpoint when it is asked for
    /// again.
    /// </summary>
    /// <example>
    /// <code>
    /// var trainer = cluster.Trainer(new("first", "edits.tsv", new() { MaxIters = 100 }));
    /// var result = await trainer.TrainAsync(new Progress&lt;TrainingProgress&gt;(step
    /// => Console.WriteLine($"{step.Iteration}: {step.Loss:0.000}")));
    /// </code>
    /// </example>
    public IEditorTrainer Trainer(TrainingRequest request) => new HttpTrainer(this, request);

    public ValueTask DisposeAsync()
    {
        if (_isOwn)
            _http.Dispose();
        return ValueTask.CompletedTask;
    }

    internal async Task<T> SendAsync<T>(HttpMethod method, string path, object? body, CancellationToken cancellation, string? key = null) =>
        await RetryAsync(async _ =>
    {
        using var response = await SendOnceAsync(method, path, body, key, null, cancellation).ConfigureAwait(false);
        return await ReadAsync<T>(response, cancellation).ConfigureAwait(false);
    }, cancellation).ConfigureAwait(false);

    /// <summary>Sends again what may pass, after pauses that double and are of random length, or as the server says.</summary>
    internal async Task<T> RetryAsync<T>(Func<int, Task<T>> send, CancellationToken cancellation)
    {
        long? failed = null;
        for (var attempt = 1; ; attempt++)
            try
            {
                return await send(attempt).ConfigureAwait(false);
            }
            catch (MendException e) when (e.IsTransient && _time.GetElapsedTime(failed ??= _time.GetTimestamp()) < RetryTimeout)
            {
                var pause = Math.Min(LongestPause, FirstPause * Math.Pow(2, Math.Min(attempt - 1, 10))) * (0.5 + Spread());
                await Task.Delay(e.Data[RetryAfterData] as TimeSpan? ?? TimeSpan.FromMilliseconds(pause), _time, cancellation)
                    .ConfigureAwait(false);
            }
    }

    /// <summary>One attempt.</summary>
    /// <exception cref="MendException">It was refused, or the server does not answer.</exception>
    internal Task<HttpResponseMessage> SendOnceAsync(HttpMethod method, string path, object? body, string? key, string? accept,
        CancellationToken cancellation, long? lastEvent = null) => KnownAsync(async () =>
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
            request.Content = JsonContent.Create(body, body.GetType(), new MediaTypeHeaderValue("application/json"), MendHttp.Json);
        if (key is not null)
            request.Headers.Add(MendHttp.IdempotencyKey, key);
        if (lastEvent is not null)
            request.Headers.Add("Last-Event-ID", lastEvent.ToString());
        request.Headers.Accept.Add(new(accept ?? "application/json"));
        var response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        if (response.IsSuccessStatusCode)
            return response;
        using (response)
            throw await FailureAsync(response, cancellation).ConfigureAwait(false);
    }, cancellation);

    internal static T Read<T>(string json) => JsonSerializer.Deserialize<T>(json, MendHttp.Json) ?? throw new JsonException("null");

    /// <summary>Whatever fails on the way is a lost coordinator: whether the request was carried out is not known.</summary>
    internal static async Task<T> KnownAsync<T>(Func<Task<T>> ask, CancellationToken cancellation)
    {
        try
        {
            return await ask().ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or IOException
            || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            throw Lost(e.Message, e);
        }
        catch (JsonException e)
        {
            throw new MendException(MendError.ProtocolMismatch, $"What the server answers cannot be read: {e.Message}",
                "Look whether the address is a MendCluster server's, of this release.", e);
        }
    }

    private static async Task<T> ReadAsync<T>(HttpResponseMessage response, CancellationToken cancellation) =>
        await KnownAsync(async () => await response.Content.ReadFromJsonAsync<T>(MendHttp.Json, cancellation).ConfigureAwait(false)
        ?? throw new JsonException("null"), cancellation).ConfigureAwait(false);

    private const string RetryAfterData = "mend.retryAfter";

    private static async Task<MendException> FailureAsync(HttpResponseMessage response, CancellationToken cancellation)
    {
        if (response.Content.Headers.ContentType?.MediaType == MendHttp.ProblemType)
            try
            {
                var failure = (await response.Content.ReadFromJsonAsync<Problem>(MendHttp.Json, cancellation)
                    .ConfigureAwait(false))!.ToException();
                failure.Data[RetryAfterData] = response.Headers.RetryAfter?.Delta;
                return failure;
            }
            catch (JsonException)
            {
                // A code of a newer server, or none of ours: its status says the rest.
            }
        return response.StatusCode >= HttpStatusCode.InternalServerError
            ? Lost($"{(int)response.StatusCode} {response.ReasonPhrase}")
            : new(MendError.ProtocolMismatch,
                $"The server answers {(int)response.StatusCode} {response.ReasonPhrase}, which says nothing that this program knows.",
                "Look whether the address is a MendCluster server's, of this release.");
    }

    internal static MendException Lost(string why, Exception? inner = null) =>
        new(MendError.CoordinatorLost, $"The server does not answer: {why}",
        "Look whether it runs, then send the request again; an edit with the same idempotency key is made once.", inner);

    /// <summary>From 0 to 1: clients that met the same fault do not come back all at once.</summary>
    private static double Spread() => System.Security.Cryptography.RandomNumberGenerator.GetInt32(1000) / 1000.0;

    /// <summary>JSON has no NaN and no infinity: they would pass for what was not named.</summary>
    private static void CheckFinite(params IEnumerable<double?> options)
    {
        foreach (var option in options)
            if (option is { } value && !double.IsFinite(value))
                throw new MendException(MendError.InvalidOption, $"An option is {value}.", "It is a number.");
    }

    /// <summary>JSON would silently make another text of half a surrogate pair, and the server takes no author from us.</summary>
    private static void Check(string? author, params IEnumerable<string?> texts)
    {
        if (author is not null)
            throw new MendException(MendError.InvalidOption, "An author was given.",
                "Over HTTP the author is whoever the key is of; leave it out.");
        foreach (var text in texts)
            try
            {
                _ = StrictText.GetByteCount(text ?? "");
            }
            catch (EncoderFallbackException e)
            {
                throw new MendException(MendError.InvalidText, "A text holds half of a surrogate pair.",
                    "Correct the text; it may have been cut in the middle of a character.", e);
            }
    }
}
