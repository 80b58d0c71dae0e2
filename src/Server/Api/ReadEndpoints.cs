using MendCluster.Contracts;
using MendCluster.Server.Security;
using MendCluster.Server.Telemetry;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Routing;

namespace MendCluster.Server.Api;

/// <summary><c>/v1/ask</c>, <c>/v1/ledger</c> and <c>/v1/status</c>.</summary>
internal static class ReadEndpoints
{
    private const string Newest = "newest", Oldest = "oldest";

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/ask", AskAsync).Requires(Right.Read).WithName("ask").WithSummary("What the model answers")
            .WithDescription("With Accept: text/event-stream the answer comes as events: part (a piece; restarts: those before it do not count), then done (the whole answer), or error.")
            .Produces<Answer>().Produces<AnswerPart>(StatusCodes.Status200OK, MendHttp.EventsType);
        api.MapGet("/ledger", LedgerAsync).Requires(Right.Read).WithName("ledger").WithSummary("What was done to the model, by pages")
            .WithMetadata(new KnownQuery("after", "limit", "text", "scope", "author", "kind", "order"))
            .WithDescription("after: the version that the page before ended at. limit: 1 to 1000, 100 by itself. order: oldest (by itself) or newest first.");
        api.MapGet("/status", StatusAsync).Requires(Right.Read).WithName("status")
            .WithSummary("The stages of every replica and their states");
    }

    /// <exception cref="MendException">More tokens are asked for than the server gives.</exception>
    public static void CheckTokens(int tokens, ApiContext api)
    {
        if (tokens > api.Settings.Limits.AnswerTokens)
            throw new MendException(MendError.InvalidOption, $"MaxTokens is {tokens}.",
                $"This server gives at most {api.Settings.Limits.AnswerTokens}.");
    }

    private static async Task AskAsync(AskRequest request, HttpContext http, ApiContext api)
    {
        var cluster = api.Cluster;
        Caller.Of(http.User).RequireAnswersOf(request.Scope);
        CheckTokens(request.MaxTokens, api);
        api.SayTexts(http, "ask", request.Prompt);
        if (!Requests.WantsEvents(http))
        {
            await http.Response.WriteAsJsonAsync(await ServerMetrics.AskAsync(() =>
                cluster.AskAsync(request.Prompt, request.Options, http.RequestAborted)), MendHttp.Json, http.RequestAborted);
            return;
        }
        var events = new Events(http);
        var (text, version) = ("", ModelVersion.Base);
        await events.SendAsync(ServerMetrics.AskAsync(cluster.AskStreamAsync(request.Prompt, request.Options, http.RequestAborted)), part =>
        {
            (text, version) = (part.Restarts ? part.Text : text + part.Text, part.Version);
            return events.WriteAsync(MendHttp.PartEvent, part);
        }, e => FailedAsync(e, http, events), http.RequestAborted);
        if (http.Response.HasStarted && !http.RequestAborted.IsCancellationRequested && http.Items[Failed] is null)
            await events.WriteAsync(MendHttp.DoneEvent, new Answer(text, version));
    }

    private static readonly object Failed = new();

    private static async Task<bool> FailedAsync(Exception e, HttpContext http, Events events)
    {
        http.Items[Failed] = true;
        if (e is not MendException known)
            return false;
        await events.WriteAsync(MendHttp.ErrorEvent, Problems.Of(http, known));
        return true;
    }

    private static async Task<Ok<LedgerPage>> LedgerAsync(
        HttpContext http, ApiContext api, [FromQuery] long? after, [FromQuery] int? limit, [FromQuery] string? text,
        [FromQuery] string? scope, [FromQuery] string? author,
        [FromQuery] string? kind, [FromQuery] string? order)
    {
        if (order is not (null or Newest or Oldest))
            throw Problems.InvalidRequest($"order is '{order}'.", $"It is {Oldest} or {Newest}.");
        LedgerKind? wanted = kind switch
        {
            null => null,
            "edit" => LedgerKind.Edit,
            "revert" => LedgerKind.Revert,
            "consolidate" => LedgerKind.Consolidate,
            _ => throw Problems.InvalidRequest($"kind is '{kind}'.", "It is edit, revert or consolidate."),
        };
        var query = new LedgerQuery
        {
            After = after is { } version ? new(version) : null,
            Limit = limit ?? LedgerQuery.DefaultEntries,
            Text = text,
            Scope = scope,
            Author = author,
            Kind = wanted,
            NewestFirst = order == Newest,
            VisibleScopes = Caller.Of(http.User).Scopes,
        };
        var entries = await api.Cluster.LedgerPageAsync(query, http.RequestAborted);
        return TypedResults.Ok(new LedgerPage(entries, entries.Count == query.Limit ? entries[^1].Version : null));
    }

    private static async Task<Ok<ClusterStatus>> StatusAsync(HttpContext http, ApiContext api)
    {
        var shards = await api.Cluster.ShardsAsync(http.RequestAborted);
        List<ModelVersion> versions = [.. shards.Select(shard => shard.Status).OfType<ShardStatus>().Select(status => status.Version)];
        return TypedResults.Ok(new ClusterStatus(api.Served.Model, versions.Count == 0 ? null : versions.Max(), shards,
            api.RecentEdits));
    }
}
