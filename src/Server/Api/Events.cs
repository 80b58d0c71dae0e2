using System.Text.Json;
using MendCluster.Contracts;
using Microsoft.AspNetCore.Http;

namespace MendCluster.Server.Api;

/// <summary>Server-sent events, each a record in JSON.</summary>
internal sealed class Events(HttpContext http)
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(15);

    /// <summary>
    /// Sends the sequence; what fails in the midst of it is an event too. What fails before the first is thrown: the request is answered
    /// with it.
    /// </summary>
    /// <param name="send">Sends one of them.</param>
    /// <param name="stopping">Ends the stream.</param>
    public async Task SendAsync<T>(IAsyncEnumerable<T> sequence, Func<T, Task> send, Func<Exception, Task<bool>> failed,
        CancellationToken stopping)
    {
        await using var items = sequence.GetAsyncEnumerator(stopping);
        var next = items.MoveNextAsync().AsTask();
        var isOpen = false;
        try
        {
            while (true)
            {
                while (await Task.WhenAny(next, Task.Delay(Silence, stopping)).ConfigureAwait(false) != next
                    && !stopping.IsCancellationRequested)
                {
                    Begin();
                    // or what lies between would take the connection for dead
                    await http.Response.WriteAsync(":\n\n", stopping).ConfigureAwait(false);
                    await http.Response.Body.FlushAsync(stopping).ConfigureAwait(false);
                }
                if (!await next.ConfigureAwait(false))
                    return;
                Begin();
                await send(items.Current).ConfigureAwait(false);
                next = items.MoveNextAsync().AsTask();
            }
        }
        catch (Exception e) when (isOpen)
        {
            if (!await failed(e).ConfigureAwait(false))
                throw;
        }

        void Begin()
        {
            if (isOpen)
                return;
            isOpen = true;
            http.Response.ContentType = MendHttp.EventsType;
            http.Response.Headers["X-Accel-Buffering"] = "no"; // nginx would hold them back
        }
    }

    /// <param name="name">Of the event; null: none, as OpenAI's.</param>
    public async Task WriteAsync<T>(string? name, T data, long? id = null)
    {
        var head = (id is { } number ? $"id: {number}\n" : "") + (name is null ? "" : $"event: {name}\n");
        await http.Response.WriteAsync($"{head}data: {JsonSerializer.Serialize(data, MendHttp.Json)}\n\n", http.RequestAborted)
            .ConfigureAwait(false);
        await http.Response.Body.FlushAsync(http.RequestAborted).ConfigureAwait(false);
    }
}
