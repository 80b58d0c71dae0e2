using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Server.Security;
using MendCluster.Server.Telemetry;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Routing;

namespace MendCluster.Server.Api;

/// <summary>
/// <c>/v1/completions</c> and <c>/v1/models</c> in OpenAI's form, so that its clients work. What a member asks for is done or refused; the
/// temperature is 0
/// where none is named, so that an answer is that of <c>/v1/ask</c>.
/// </summary>
internal static class OpenAiEndpoints
{
    private const string End = "[DONE]", Stopped = "stop", Cut = "length";

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/completions", CompleteAsync).Requires(Right.Read).WithMetadata(new OpenAiForm()).WithName("complete")
            .WithSummary("An answer, in OpenAI's form")
            .Produces<Completion>();
        api.MapGet("/models", (ApiContext api) => TypedResults.Ok(new ModelList([ModelOf(api)]))).Requires(Right.Read)
            .WithMetadata(new OpenAiForm())
            .WithName("models").WithSummary("The model, in OpenAI's form");
        api.MapGet("/models/{model}", FindModel).Requires(Right.Read).WithMetadata(new OpenAiForm()).WithName("findModel")
            .WithSummary("The same of one model");
    }

    private static Model ModelOf(ApiContext api) => new(api.Served.Model);

    private static Ok<Model> FindModel(string model, ApiContext api) =>
        TypedResults.Ok(model == api.Served.Model ? ModelOf(api) : throw UnknownModel(model, api));

    private static async Task CompleteAsync(CompletionRequest request, HttpContext http, ApiContext api, TimeProvider time)
    {
        var cluster = api.Cluster;
        if (request.Model != api.Served.Model)
            throw UnknownModel(request.Model, api);
        var (prompt, stops) = (request.OnlyPrompt(), request.Stops());
        request.RefuseWhatIsNotDone();
        Caller.Of(http.User).RequireAnswersOf(request.Scope);
        ReadEndpoints.CheckTokens(request.MaxTokens ?? CompletionRequest.DefaultTokens, api);
        api.SayTexts(http, "complete", prompt);
        var options = new AskOptions(request.MaxTokens ?? CompletionRequest.DefaultTokens, request.Temperature ?? 0, 0, request.TopP ?? 1,
            request.Seed ?? 0, request.Scope);
        var (id, created) = ($"cmpl-{Guid.NewGuid():N}", time.GetUtcNow().ToUnixTimeSeconds());
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted);
        var (answer, sent, tokens, isStopped) = ("", 0, 0, false);
        var parts = PartsAsync();
        if (!request.Stream)
        {
            var text = "";
            await foreach (var piece in parts)
                text += piece;
            await http.Response.WriteAsJsonAsync(Chunk(text, Finish()), MendHttp.Json, http.RequestAborted);
            return;
        }
        var events = new Events(http);
        var isFailed = false;
        await events.SendAsync(parts, piece => events.WriteAsync(null, Chunk(piece, null)), async e =>
        {
            isFailed = true;
            if (e is MendException known)
                await events.WriteAsync(null, OpenAiError.Of(Problems.Of(http, known)));
            return e is MendException;
        }, http.RequestAborted);
        if (isFailed || http.RequestAborted.IsCancellationRequested)
            return;
        http.Response.ContentType ??= MendHttp.EventsType;
        await events.WriteAsync(null, Chunk("", Finish()));
        await http.Response.WriteAsync($"data: {End}\n\n", http.RequestAborted);

        string Finish() => !isStopped && tokens >= options.MaxTokens ? Cut : Stopped;

        Completion Chunk(string text, string? finish) => new(id, created, request.Model, [new(text, finish)]);

        // What can no longer be the beginning of a stop.
        async IAsyncEnumerable<string> PartsAsync()
        {
            await foreach (var part in ServerMetrics.AskAsync(cluster.AskStreamAsync(prompt, options, enough.Token)))
            {
                if (part.Restarts && sent > 0)
                    throw new MendException(MendError.VersionGone, "The model changed while it answered.", "Send the request again.");
                (answer, tokens) = (part.Restarts ? part.Text : answer + part.Text, part.Tokens);
                var end = stops.Select(stop => answer.IndexOf(stop, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1)
                    .Min();
                isStopped = end >= 0;
                var sure = isStopped ? end : answer.Length - stops.Select(stop => stop.Length - 1).DefaultIfEmpty(0).Max();
                if (sure > sent)
                {
                    yield return answer[sent..sure];
                    sent = sure;
                }
                if (isStopped)
                    yield break;
            }
            if (answer.Length > sent)
                yield return answer[sent..];
        }
    }

    private static MendException UnknownModel(string model, ApiContext api) =>
        new(MendError.InvalidOption, $"There is no model '{model}' here.", $"This server has {api.Served.Model}.");

    /// <summary>Names are OpenAI's.</summary>
    internal sealed record CompletionRequest(string Model, JsonElement Prompt)
    {
        public const int DefaultTokens = 16;

        private const int MaxStops = 4;

        [JsonPropertyName("max_tokens")]
        public int? MaxTokens { get; init; }

        public double? Temperature { get; init; }

        [JsonPropertyName("top_p")]
        public double? TopP { get; init; }

        public int? Seed { get; init; }

        public bool Stream { get; init; }

        public JsonElement? Stop { get; init; }

        /// <summary>Whom the caller asks for: nothing here depends on it.</summary>
        public string? User { get; init; }

        /// <summary>Not OpenAI's: the scope whose edits are seen.</summary>
        public string? Scope { get; init; }

        public int? N { get; init; }

        [JsonPropertyName("best_of")]
        public int? BestOf { get; init; }

        public bool? Echo { get; init; }

        public int? Logprobs { get; init; }

        public string? Suffix { get; init; }

        [JsonPropertyName("frequency_penalty")]
        public double? FrequencyPenalty { get; init; }

        [JsonPropertyName("presence_penalty")]
        public double? PresencePenalty { get; init; }

        public string OnlyPrompt() => Prompt switch
        {
            { ValueKind: JsonValueKind.String } text => TextOf(text, "prompt"),
            { ValueKind: JsonValueKind.Array } list when list.GetArrayLength() == 1
                && list[0].ValueKind == JsonValueKind.String => TextOf(list[0], "prompt"),
            _ => throw Problems.InvalidRequest("prompt is not one text.", "Send a request for each text; tokens are not taken."),
        };

        public IReadOnlyList<string> Stops()
        {
            IReadOnlyList<string?> stops = Stop switch
            {
                null or { ValueKind: JsonValueKind.Null } => [],
                { ValueKind: JsonValueKind.String } one => [TextOf(one, "stop")],
                { ValueKind: JsonValueKind.Array } list =>
                    [.. list.EnumerateArray().Select(stop => stop.ValueKind == JsonValueKind.String ? TextOf(stop, "stop") : null)],
                _ => [null],
            };
            return stops.Count <= MaxStops && stops.All(stop => !string.IsNullOrEmpty(stop)) ? [.. stops.OfType<string>()]
                : throw Problems.InvalidRequest($"stop is not a text or at most {MaxStops} texts.", "Leave it out, or correct it.");
        }

        private static string TextOf(JsonElement text, string name) => Requests.TextOf(() => text.GetString()!, name);

        public void RefuseWhatIsNotDone()
        {
            foreach (var (name, isAsked) in new[]
            {
                ("n", N is not (null or 1)), ("best_of", BestOf is not (null or 1)), ("echo", Echo == true),
                    ("logprobs", Logprobs is not null),
                ("suffix", Suffix is not null), ("frequency_penalty", FrequencyPenalty is not (null or 0)),
                    ("presence_penalty", PresencePenalty is not (null or 0)),
            })
                if (isAsked)
                    throw new MendException(MendError.InvalidOption, $"{name} is not to be had here.", "Leave it out.");
        }
    }

    internal sealed record Completion(string Id, long Created, string Model, IReadOnlyList<Choice> Choices,
        string Object = "text_completion");

    internal sealed record Choice(
        string Text, [property: JsonPropertyName("finish_reason"), JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? FinishReason,
        int Index = 0,
        [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] object? Logprobs = null);

    internal sealed record ModelList(IReadOnlyList<Model> Data, string Object = "list");

    internal sealed record Model(string Id, long Created = 0, string Object = "model",
        [property: JsonPropertyName("owned_by")] string OwnedBy = "mendcluster");
}
