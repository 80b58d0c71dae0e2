using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Server;
using Microsoft.Extensions.Hosting;

namespace MendCluster.Silo;

/// <summary>
/// The database that a silo joins its cluster through. The silo starts when it answers: after a power failure silos may be up before it is.
/// Meanwhile health says what the silo waits for.
/// </summary>
internal sealed class MembershipDatabase(string connection, ServedCluster served, TimeProvider time, TextWriter output) : IHostedService
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    /// <exception cref="MendException">It refuses, or its tables are missing or of another version.</exception>
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        for (var said = false; ; said = true)
            try
            {
                await PostgresSchema.Membership.CheckAsync(connection, cancellationToken).ConfigureAwait(false);
                served.Waits("joins its cluster");
                return;
            }
            catch (MendException e) when (e.Error == MendError.MembershipUnreachable)
            {
                served.Waits("waits for the membership's database");
                if (!said)
                    await output.WriteLineAsync($"{e.Message} The silo waits for it.").ConfigureAwait(false);
                await Task.Delay(Pause, time, cancellationToken).ConfigureAwait(false);
            }
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
