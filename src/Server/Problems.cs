using System.Diagnostics;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using Microsoft.AspNetCore.Http;

namespace MendCluster.Server;

/// <summary>How failures are told over HTTP.</summary>
internal static class Problems
{
    private const string RetryAfterSeconds = "1";

    /// <summary>
    /// The status of every code. Another that a request's form has (404, 405, 413, 415) takes the place of
    /// <see cref="MendError.InvalidRequest"/>'s.
    /// </summary>
    public static IReadOnlyDictionary<MendError, int> Statuses { get; } = new Dictionary<MendError, int>
    {
        [MendError.InvalidRequest] = StatusCodes.Status400BadRequest,
        [MendError.NotAuthenticated] = StatusCodes.Status401Unauthorized,
        [MendError.NotAllowed] = StatusCodes.Status403Forbidden,
        [MendError.UnknownEdit] = StatusCodes.Status404NotFound,
        [MendError.UnknownTraining] = StatusCodes.Status404NotFound,
        [MendError.AlreadyReverted] = StatusCodes.Status409Conflict,
        [MendError.DrawdownExceeded] = StatusCodes.Status409Conflict,
        [MendError.EditUnsuccessful] = StatusCodes.Status409Conflict,
        [MendError.BudgetExceeded] = StatusCodes.Status409Conflict,
        [MendError.NothingToConsolidate] = StatusCodes.Status409Conflict,
        [MendError.ConsolidationRefused] = StatusCodes.Status409Conflict,
        [MendError.NotFinite] = StatusCodes.Status409Conflict,
        [MendError.EditorMissing] = StatusCodes.Status409Conflict,
        [MendError.TrainerBusy] = StatusCodes.Status409Conflict,
        [MendError.RunDiffers] = StatusCodes.Status409Conflict,
        [MendError.OutputTaken] = StatusCodes.Status409Conflict,
        [MendError.EmptyPrompt] = StatusCodes.Status422UnprocessableEntity,
        [MendError.EmptyTarget] = StatusCodes.Status422UnprocessableEntity,
        [MendError.TooLong] = StatusCodes.Status422UnprocessableEntity,
        [MendError.InvalidOption] = StatusCodes.Status422UnprocessableEntity,
        [MendError.InvalidText] = StatusCodes.Status422UnprocessableEntity,
        [MendError.UnknownLabel] = StatusCodes.Status422UnprocessableEntity,
        [MendError.IdempotencyKeyReused] = StatusCodes.Status422UnprocessableEntity,
        [MendError.InvalidData] = StatusCodes.Status422UnprocessableEntity,
        [MendError.TooBusy] = StatusCodes.Status429TooManyRequests,
        [MendError.LedgerUnusable] = StatusCodes.Status500InternalServerError,
        [MendError.LedgerInUse] = StatusCodes.Status500InternalServerError,
        [MendError.ModelUnusable] = StatusCodes.Status500InternalServerError,
        [MendError.ReplicasDiffer] = StatusCodes.Status500InternalServerError,
        [MendError.MembershipUnusable] = StatusCodes.Status500InternalServerError,
        [MendError.FileUnusable] = StatusCodes.Status500InternalServerError,
        [MendError.ProtocolMismatch] = StatusCodes.Status500InternalServerError,
        [MendError.Defect] = StatusCodes.Status500InternalServerError,
        [MendError.ShardLost] = StatusCodes.Status503ServiceUnavailable,
        [MendError.VersionBehind] = StatusCodes.Status503ServiceUnavailable,
        [MendError.VersionGone] = StatusCodes.Status503ServiceUnavailable,
        [MendError.VersionGap] = StatusCodes.Status503ServiceUnavailable,
        [MendError.LedgerWriteFailed] = StatusCodes.Status503ServiceUnavailable,
        [MendError.LedgerUnreachable] = StatusCodes.Status503ServiceUnavailable,
        [MendError.LedgerInDoubt] = StatusCodes.Status503ServiceUnavailable,
        [MendError.CoordinatorLost] = StatusCodes.Status503ServiceUnavailable,
        [MendError.MembershipUnreachable] = StatusCodes.Status503ServiceUnavailable,
        [MendError.Unavailable] = StatusCodes.Status503ServiceUnavailable,
        [MendError.TimedOut] = StatusCodes.Status504GatewayTimeout,
        [MendError.OutOfMemory] = StatusCodes.Status507InsufficientStorage,
    };

    public static MendException InvalidRequest(string what, string hint, Exception? inner = null) =>
        new(MendError.InvalidRequest, what, hint, inner);

    public static Problem Of(HttpContext http, MendException e, int? status = null) =>
        Problem.Of(e, status ?? Statuses[e.Error], TraceOf(http));

    /// <summary>Under which log and traces have the request.</summary>
    public static string TraceOf(HttpContext http) => Activity.Current?.TraceId.ToString() ?? http.TraceIdentifier;

    /// <summary>Answers a request with what went wrong, in the form that its endpoint has for that.</summary>
    /// <param name="status">Another than the code's.</param>
    public static async Task WriteAsync(HttpContext http, MendException e, int? status = null, TimeSpan? retryAfter = null)
    {
        var problem = Of(http, e, status);
        http.Response.StatusCode = problem.Status;
        if (problem.Transient)
            http.Response.Headers.RetryAfter = retryAfter is { } wait ? ((int)Math.Ceiling(Math.Max(1, wait.TotalSeconds))).ToString()
                : RetryAfterSeconds;
        if (http.Request.Method == HttpMethods.Head)
            return;
        if (http.GetEndpoint()?.Metadata.GetMetadata<OpenAiForm>() is not null)
            await http.Response.WriteAsJsonAsync(OpenAiError.Of(problem), MendHttp.Json, CancellationToken.None).ConfigureAwait(false);
        else
            await http.Response.WriteAsJsonAsync(problem, MendHttp.Json, MendHttp.ProblemType, CancellationToken.None)
                .ConfigureAwait(false);
    }
}

/// <summary>Marks endpoints in OpenAI's form, whose errors have that form too.</summary>
internal sealed class OpenAiForm;

internal sealed record OpenAiError(OpenAiError.Body Error)
{
    public static OpenAiError Of(Problem problem) => new(new Body($"{problem.Detail} {problem.Hint}",
        problem.Status < StatusCodes.Status500InternalServerError ? "invalid_request_error" : "server_error", problem.Code.ToString()));

    public sealed record Body(string Message, string Type, string Code,
        [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Param = null);
}
