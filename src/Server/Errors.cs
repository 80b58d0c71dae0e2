using MendCluster.Contracts;
using MendCluster.Server.Api;
using MendCluster.Server.Security;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server;

/// <summary>Answers every request that fails, and writes every refusal into the audit.</summary>
internal sealed class Errors(RequestDelegate next, ILogger<Errors> logger)
{
    private const int ClientGone = 499;

    public async Task InvokeAsync(HttpContext http)
    {
        http.Response.Headers.XContentTypeOptions = "nosniff";
        http.Response.Headers.CacheControl = "no-store";
        try
        {
            Requests.RequireUtf8(http.Request);
            await next(http);
            if (!http.Response.HasStarted && http.Response is { StatusCode: >= StatusCodes.Status400BadRequest, ContentType: null })
                await RefuseAsync(http, WithoutBody(http), status: http.Response.StatusCode);
        }
        catch (Exception e)
        {
            await AnswerAsync(http, e);
        }
    }

    /// <param name="status">Another than the code's.</param>
    public static async Task RefuseAsync(HttpContext http, MendException e, TimeSpan? retryAfter = null, int? status = null)
    {
        await Problems.WriteAsync(http, e, status, retryAfter);
        if (IsForAudit(http, e.Error))
            LogMessages.Refused(http.RequestServices.GetRequiredService<ILoggerFactory>().CreateLogger(LogMessages.Audit),
                $"{http.Request.Method} {http.Request.Path}",
                Caller.Find(http.User)?.Name ?? "nobody", http.Connection.RemoteIpAddress?.ToString(), e.Error.ToString(),
                    http.Response.StatusCode);
    }

    private async Task AnswerAsync(HttpContext http, Exception e)
    {
        if (e is OperationCanceledException or IOException && http.RequestAborted.IsCancellationRequested)
        {
            LogMessages.Gone(logger, e, http.Request.Method, http.Request.Path);
            if (!http.Response.HasStarted)
                http.Response.StatusCode = ClientGone; // for whoever counts; nobody reads it
            return;
        }
        var (known, status) = e switch
        {
            MendException mend => (mend, (int?)null),
            BadHttpRequestException bad =>
                (Problems.InvalidRequest(Described(bad), "docs/api.md has the form of requests.", bad), bad.StatusCode),
            _ => (new(MendError.Defect, $"The server met what nobody foresaw: trace {Problems.TraceOf(http)}.",
                "Please report it with the server's log.", e), null),
        };
        if (known.Error == MendError.Defect)
            LogMessages.Defect(logger, e, http.Request.Method, http.Request.Path);
        else if (Problems.Statuses[known.Error] >= StatusCodes.Status500InternalServerError)
            LogMessages.Failed(logger, e, http.Request.Method, http.Request.Path, known.Error.ToString());
        if (http.Response.HasStarted)
        {
            http.Abort(); // what was sent must not pass for the whole
            return;
        }
        var challenge = http.Response.Headers.WWWAuthenticate;
        http.Response.Clear();
        http.Response.Headers.XContentTypeOptions = "nosniff";
        http.Response.Headers.CacheControl = "no-store";
        if (known.Error == MendError.NotAuthenticated)
            http.Response.Headers.WWWAuthenticate = challenge;
        await RefuseAsync(http, known, status: status);
    }

    /// <summary>The reader of JSON says where; the rest says what.</summary>
    private static string Described(BadHttpRequestException e) => e.InnerException is System.Text.Json.JsonException json
        ? $"The body cannot be read: {json.Message}" : e.Message;

    private static MendException WithoutBody(HttpContext http) => http.Response.StatusCode switch
    {
        StatusCodes.Status404NotFound =>
            Problems.InvalidRequest($"There is nothing at {http.Request.Path}.", "docs/api.md lists what there is."),
        StatusCodes.Status405MethodNotAllowed =>
            Problems.InvalidRequest($"{http.Request.Path} has no {http.Request.Method}.", $"It has {http.Response.Headers.Allow}."),
        StatusCodes.Status415UnsupportedMediaType => Problems.InvalidRequest("The body is of another type.", "Send application/json."),
        var status => Problems.InvalidRequest($"The request was refused with {status}.", "docs/api.md has the form of requests."),
    };

    /// <summary>Whoever was kept out, and every change that was not made.</summary>
    private static bool IsForAudit(HttpContext http, MendError error) =>
        error is MendError.NotAuthenticated or MendError.NotAllowed or MendError.TooBusy
        || http.GetEndpoint()?.Metadata.GetMetadata<RequiredRight>() is { Right: not Right.Read };
}
