using System.Collections.Concurrent;
using System.Net.Http.Headers;
using MendCluster.Contracts;
using MendCluster.Server.Security;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Api;

/// <summary>What all endpoints of the API need of a request.</summary>
internal sealed class ApiContext(ServedCluster served, EditQueue queue, ServerSettings settings, ILoggerFactory logs)
{
    private const int MaxRecentEdits = 100;

    private readonly ConcurrentQueue<EditTiming> _recent = [];
    private readonly ILogger _audit = logs.CreateLogger(LogMessages.Audit);

    public IMendCluster Cluster => served.Required();

    public EditQueue Queue => queue;

    public ServedCluster Served => served;

    public ServerSettings Settings => settings;

    /// <summary>The last edits that were made here, the newest last.</summary>
    public IReadOnlyList<EditTiming> RecentEdits => [.. _recent];

    public void Made(EditReceipt receipt)
    {
        _recent.Enqueue(new(receipt.Id, receipt.Times));
        while (_recent.Count > MaxRecentEdits)
            _ = _recent.TryDequeue(out _);
    }

    public void Changed(HttpContext http, string action, string what, ModelVersion version) =>
        LogMessages.Changed(_audit, action, Caller.Of(http.User).Name, http.Connection.RemoteIpAddress?.ToString(), what, version.Value);

    public void SayTexts(HttpContext http, string action, string prompt, string? target = null)
    {
        if (settings.LogTexts)
            LogMessages.Texts(_audit, action, Caller.Of(http.User).Name, prompt, target);
    }

    /// <summary>The trainings of this cluster and the folder that they are in.</summary>
    public (ITrainingJobs Runs, string Folder) Trainings()
    {
        _ = Cluster;
        return served.Trainings is { } runs && settings.Trainings is { } folder ? (runs, Path.GetFullPath(folder))
            : throw new MendException(MendError.UnknownTraining, "This server takes no trainings.",
                "Its setting Trainings names the folder of data and runs.");
    }
}

internal static class Requests
{
    /// <summary>The key of an edit, told apart from other callers' keys.</summary>
    public static string? IdempotencyKeyOf(HttpContext http, Caller caller) => http.Request.Headers[MendHttp.IdempotencyKey] switch
    {
        [] => null,
        [{ Length: > 0 and <= MendHttp.LongestKey } key] => $"{caller.Name}/{key}",
        _ => throw Problems.InvalidRequest($"{MendHttp.IdempotencyKey} is not one key of 1 to {MendHttp.LongestKey} characters.",
            "Send the header once."),
    };

    /// <summary>
    /// What is read of a piece of the body; the framework lets pieces in that are not Unicode, and fails on them when they are read.
    /// </summary>
    public static string TextOf(Func<string> read, string name)
    {
        try
        {
            return read();
        }
        catch (InvalidOperationException e)
        {
            throw Problems.InvalidRequest($"{name} is not Unicode.", "Send UTF-8, without halves of surrogate pairs.", e);
        }
    }

    public static bool WantsEvents(HttpContext http) =>
        http.Request.Headers.Accept.Any(accept => accept?.Contains(MendHttp.EventsType, StringComparison.OrdinalIgnoreCase) == true);

    /// <summary>Refuses what would be ignored: query parameters that the endpoint has not.</summary>
    public static async ValueTask<object?> OnlyKnownQueryAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var known = context.HttpContext.GetEndpoint()?.Metadata.GetMetadata<KnownQuery>()?.Names ?? [];
        foreach (var name in context.HttpContext.Request.Query.Keys)
            if (!known.Contains(name))
                throw Problems.InvalidRequest($"There is no query parameter '{name}' here.", known.Length == 0 ? "There is none."
                    : $"There are {string.Join(", ", known)}.");
        return await next(context);
    }

    /// <summary>Bodies are JSON in UTF-8; the framework would read other encodings, and fail on names that it does not know.</summary>
    public static void RequireUtf8(HttpRequest request)
    {
        if (request.ContentType is not null && MediaTypeHeaderValue.TryParse(request.ContentType, out var type)
            && type.CharSet is { } charset
            && !charset.Trim('"').Equals("utf-8", StringComparison.OrdinalIgnoreCase))
            throw new BadHttpRequestException($"The body is in {charset}.", StatusCodes.Status415UnsupportedMediaType);
    }
}

/// <summary>The query parameters of an endpoint.</summary>
internal sealed record KnownQuery(params string[] Names);
