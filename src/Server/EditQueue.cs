using MendCluster.Contracts;

namespace MendCluster.Server;

/// <summary>
/// Bounds how many edits, previews and reverts this server has taken and not answered; their turns are the coordinator's.
/// </summary>
internal sealed class EditQueue(ServerSettings settings, ServedCluster served)
{
    private int _count;

    /// <summary>Taken and not answered.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <exception cref="MendException"><see cref="MendError.TooBusy"/>, or the server stops; nothing was done.</exception>
    public async Task<T> RunAsync<T>(Func<Task<T>> write)
    {
        if (served.IsStopping)
            throw new MendException(MendError.Unavailable, "The server stops and takes no edit any more.",
                "Nothing was done. Send the request again, to another server or later.");
        try
        {
            if (Interlocked.Increment(ref _count) > settings.Limits.WaitingEdits)
                throw new MendException(MendError.TooBusy, $"{settings.Limits.WaitingEdits} edits are under way or wait for their turn.",
                    "Nothing was done. Wait a moment and send the request again.");
            return await write().ConfigureAwait(false);
        }
        finally
        {
            Interlocked.Decrement(ref _count);
        }
    }
}
