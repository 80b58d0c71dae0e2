using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;

namespace MendCluster.Silo;

/// <summary>The database that a silo joins its cluster through.</summary>
internal static class MembershipDatabase
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    /// <summary>Waits until it answers: after a power failure silos may be up before it is.</summary>
    /// <exception cref="MendException">It refuses, or its tables are missing or of another version.</exception>
    public static async Task ReadyAsync(string connection, TimeProvider time, TextWriter output)
    {
        for (var said = false; ; said = true)
            try
            {
                await PostgresSchema.Membership.CheckAsync(connection).ConfigureAwait(false);
                return;
            }
            catch (MendException e) when (e.Error == MendError.MembershipUnreachable)
            {
                if (!said)
                    await output.WriteLineAsync($"{e.Message} The silo waits for it.").ConfigureAwait(false);
                await Task.Delay(Pause, time).ConfigureAwait(false);
            }
    }
}
