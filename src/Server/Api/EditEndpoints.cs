using MendCluster.Contracts;
using MendCluster.Server.Security;
using MendCluster.Server.Telemetry;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Routing;

namespace MendCluster.Server.Api;

/// <summary><c>/v1/edits</c>: make, try, see and take back.</summary>
internal static class EditEndpoints
{
    /// <summary>Of the requests that wait for their turn.</summary>
    public const string Timeout = "edit";

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/edits", EditAsync).Requires(Right.Edit).WithRequestTimeout(Timeout).WithName("edit")
            .WithSummary("Make the model answer the target to the prompt and to its paraphrases")
            .WithDescription("With the header Idempotency-Key the edit is made once however often it is sent: 201 the first time, then 200.");
        api.MapPost("/edits/preview", PreviewAsync).Requires(Right.Edit).WithRequestTimeout(Timeout).WithName("preview")
            .WithSummary("Compute and measure an edit, and do not make it");
        api.MapGet("/edits/{id:long}", FindAsync).Requires(Right.Read).WithName("findEdit").WithSummary("An edit, and what took it back");
        api.MapPost("/edits/{id:long}/revert", RevertAsync).Requires(Right.Edit).WithRequestTimeout(Timeout).WithName("revert")
            .WithSummary("Take an edit back, or a consolidation");
        api.MapPost("/consolidations", ConsolidateAsync).Requires(Right.Edit).WithRequestTimeout(LongestConsolidation)
            .WithName("consolidate").WithSummary("Put one update in the place of those of all edits in force")
            .WithDescription("Answers when it is made or refused; edits and answers go on meanwhile.");
    }

    private static async Task<Results<Created<EditReceipt>, Ok<EditReceipt>>> EditAsync(EditRequest request, HttpContext http,
        ApiContext api)
    {
        var (cluster, caller) = (api.Cluster, Caller.Of(http.User));
        caller.RequireEditsOf(request.Scope);
        var key = Requests.IdempotencyKeyOf(http, caller);
        api.SayTexts(http, "edit", request.Prompt, request.Target);
        var receipt = await ServerMetrics.EditAsync(() =>
            api.Queue.RunAsync(() =>
            cluster.EditAsync(request.Prompt, request.Target, request.Options(caller.Name, key), http.RequestAborted)));
        if (receipt.Times == EditTimes.Zero) // made by an earlier request with the same key
            return TypedResults.Ok(receipt);
        api.Made(receipt);
        api.Changed(http, "edit", $"edit {receipt.Id}", receipt.Version);
        return TypedResults.Created($"/v1/edits/{receipt.Id}", receipt);
    }

    private static async Task<Ok<EditPreview>> PreviewAsync(EditRequest request, HttpContext http, ApiContext api)
    {
        var (cluster, caller) = (api.Cluster, Caller.Of(http.User));
        caller.RequireEditsOf(request.Scope);
        if (request.Paraphrases is { Count: > MaxParaphrases })
            throw new MendException(MendError.InvalidOption, $"There are {request.Paraphrases.Count} paraphrases.",
                $"A preview takes at most {MaxParaphrases}.");
        api.SayTexts(http, "preview", request.Prompt, request.Target);
        return TypedResults.Ok(await api.Queue.RunAsync(() =>
            cluster.PreviewAsync(request.Prompt, request.Target, request.Options(caller.Name, null), http.RequestAborted)));
    }

    private const int MaxParaphrases = 32;

    /// <summary>The longest search, and the wait for one that is under way.</summary>
    private static readonly TimeSpan LongestConsolidation = TimeSpan.FromHours(2);

    private static async Task<Ok<EditState>> FindAsync(long id, HttpContext http, ApiContext api) =>
        TypedResults.Ok(await StateAsync(id, http, api));

    private static async Task<Ok<RevertReceipt>> RevertAsync(long id, RevertRequest? request, HttpContext http, ApiContext api)
    {
        var (cluster, caller) = (api.Cluster, Caller.Of(http.User));
        if (caller.Scopes is not null) // others may take any back
            caller.RequireEditsOf((await StateAsync(id, http, api)).Edit.Scope);
        var receipt = await api.Queue.RunAsync(() =>
            cluster.RevertAsync(new(id), request?.Mode ?? RevertMode.Remove, caller.Name, http.RequestAborted));
        api.Changed(http, "revert", $"edit {receipt.Id} taken back, {receipt.Recomputed} computed anew", receipt.Version);
        return TypedResults.Ok(receipt);
    }

    private static async Task<Ok<ConsolidationReceipt>> ConsolidateAsync(ConsolidateRequest? request, HttpContext http, ApiContext api)
    {
        var (cluster, caller) = (api.Cluster, Caller.Of(http.User));
        caller.RequireEditsOf(request?.Scope);
        var receipt = await cluster.ConsolidateAsync((request ?? new()).Options(caller.Name), http.RequestAborted);
        api.Changed(http, "consolidate", $"{receipt.Consolidated.Edits.Count} edits"
            + (request?.Without is { Count: > 0 } gone ? $" without {string.Join(", ", gone)}" : ""), receipt.Version);
        return TypedResults.Ok(receipt);
    }

    private static async Task<EditState> StateAsync(long id, HttpContext http, ApiContext api)
    {
        var entries = await api.Cluster.LedgerPageAsync(new() { Edit = new(id), VisibleScopes = Caller.Of(http.User).Scopes },
            http.RequestAborted);
        return entries.FirstOrDefault(entry => entry.Kind != LedgerKind.Revert) is { } edit
            ? new(edit, entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Revert))
            : throw new MendException(MendError.UnknownEdit, $"There is no edit {id}.", "The ledger lists the edits.");
    }
}
