using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Server.Security;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Http.Timeouts;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Hosting;

namespace MendCluster.Server.Api;

/// <summary>
/// <c>/v1/trainings</c>: one run of an editor at a time, in a folder of the server's. A run is named, and its name is that of its folder.
/// </summary>
internal static partial class TrainingEndpoints
{
    private const string LastEvent = "Last-Event-ID";

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/trainings", StartAsync).Requires(Right.Admin).WithName("train")
            .WithSummary("Begin a run, go on with one, or join the one that the same request began");
        api.MapGet("/trainings/{run}", FindAsync).Requires(Right.Admin).WithName("findTraining").WithSummary("Where a run is");
        api.MapGet("/trainings/{run}/events", WatchAsync).Requires(Right.Admin).WithName("watchTraining")
            .WithMetadata(new DisableRequestTimeoutAttribute())
            .WithSummary("Every step of a run as events")
                .WithDescription("Events: step, its id the iteration; done (where the run ended). With Last-Event-ID only what follows it.")
            .Produces<TrainingProgress>(StatusCodes.Status200OK, MendHttp.EventsType);
        api.MapDelete("/trainings/{run}", CancelAsync).Requires(Right.Admin).WithName("cancelTraining")
            .WithSummary("End a run; it goes on from its last checkpoint when it is sent again");
    }

    private static async Task<Accepted<TrainingStatus>> StartAsync(TrainingRequest request, HttpContext http, ApiContext api)
    {
        var (runs, folder) = api.Trainings();
        var (run, data) = (Below(folder, request.Run), Below(folder, request.Data));
        await runs.StartAsync(new(request.Options, data, run, request.BFloat16OnWire), http.RequestAborted);
        api.Changed(http, "train", $"run {request.Run}", ModelVersion.Base);
        return TypedResults.Accepted($"/v1/trainings/{request.Run}", await StateAsync(runs, run, request.Run, http));
    }

    private static async Task<Ok<TrainingStatus>> FindAsync(string run, HttpContext http, ApiContext api)
    {
        var (runs, folder) = api.Trainings();
        return TypedResults.Ok(await StateAsync(runs, Below(folder, run), run, http));
    }

    private static async Task WatchAsync(string run, HttpContext http, ApiContext api, IHostApplicationLifetime life)
    {
        var (runs, folder) = api.Trainings();
        var path = Below(folder, run);
        _ = await StateAsync(runs, path, run, http);
        long after = http.Request.Headers[LastEvent] switch
        {
            [] => 0,
            [{ } id] when long.TryParse(id, out var iteration) && iteration >= 0 => iteration,
            _ => throw Problems.InvalidRequest($"{LastEvent} is no number of an event.", "Leave it out to begin with the first."),
        };
        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted, life.ApplicationStopping);
        var events = new Events(http);
        await events.SendAsync(runs.WatchAsync(path, after, stopping.Token),
            step => events.WriteAsync(MendHttp.StepEvent, step, step.Iteration),
            e => Task.FromResult(e is OperationCanceledException or MendException), stopping.Token);
        if (!stopping.IsCancellationRequested)
        {
            http.Response.ContentType ??= MendHttp.EventsType;
            await events.WriteAsync(MendHttp.DoneEvent, await StateAsync(runs, path, run, http));
        }
    }

    private static async Task<NoContent> CancelAsync(string run, HttpContext http, ApiContext api)
    {
        var (runs, folder) = api.Trainings();
        var path = Below(folder, run);
        _ = await StateAsync(runs, path, run, http);
        await runs.CancelAsync(path, http.RequestAborted);
        api.Changed(http, "cancel", $"run {run}", ModelVersion.Base);
        return TypedResults.NoContent();
    }

    private static async Task<TrainingStatus> StateAsync(ITrainingJobs runs, string path, string run, HttpContext http) =>
        await runs.FindAsync(path, http.RequestAborted) is { } status ? status with { Run = run }
            : throw new MendException(MendError.UnknownTraining, $"The trainer has no run '{run}'; it may have been started anew.",
                "Send the order: the run goes on from its last checkpoint.");

    /// <summary>A name stays in the folder: it has no separators, and is no name of another folder.</summary>
    private static string Below(string folder, string name) => Name().IsMatch(name) ? Path.Combine(folder, name)
        : throw Problems.InvalidRequest("The name of a run or of its data has letters, digits, dots, dashes and underscores, does not begin with a dot, and has at most 100 of them.", "Give it another name.");

    [GeneratedRegex(@"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\z")]
    private static partial Regex Name();
}
