using System.Net.Sockets;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Ledger;

/// <summary>What becomes of a commit on its way.</summary>
public enum Cut
{
    None,

    /// <summary>It does not arrive; the server sees the connection end.</summary>
    BeforeTheServer,

    /// <summary>It does not arrive, and the server believes the connection to be up.</summary>
    BeforeTheServerUnseen,

    /// <summary>It arrives; its answer is lost.</summary>
    AfterTheServer,
}

/// <summary>Stands between a ledger and its PostgreSQL server, and cuts the connection in a commit.</summary>
public sealed class CommitCutter : IDisposable
{
    private static readonly byte[] Commit = "COMMIT\0"u8.ToArray();

    private readonly TemporaryFolder _folder = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly List<Socket> _open = [];
    private readonly string _server;

    public CommitCutter(PostgresInstance server)
    {
        _server = Path.Combine(server.Folder, SocketName);
        _listener.Bind(new UnixDomainSocketEndPoint(_folder[SocketName]));
        _listener.Listen();
        _ = AcceptAsync();
    }

    private static string SocketName => ".s.PGSQL.5432";

    public string Connection => $"Host={_folder.Path};Database=postgres;Username=mend";

    /// <summary>Of the next commit.</summary>
    public Cut Next { get; set; }

    /// <summary>Whether connections are turned away from the cut on.</summary>
    public bool StaysAway { get; set; }

    public void Dispose()
    {
        _listener.Dispose();
        lock (_open)
            _open.ForEach(socket => socket.Dispose());
        _folder.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
            try
            {
                var (client, server) = (await _listener.AcceptAsync(),
                    new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified));
                lock (_open)
                    _open.AddRange([client, server]);
                if (StaysAway && Next == Cut.None)
                    client.Dispose();
                else
                    _ = RelayAsync(client, server);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }
    }

    private async Task RelayAsync(Socket client, Socket server)
    {
        var (unseen, commit, answered) = (false, Cut.None, new TaskCompletionSource());
        try
        {
            await server.ConnectAsync(new UnixDomainSocketEndPoint(_server));
            var answers = AnswersAsync();
            var buffer = new byte[1 << 16];
            while (await client.ReceiveAsync(buffer) is > 0 and var length)
            {
                if (buffer.AsSpan(0, length).IndexOf(Commit) >= 0 && Next != Cut.None)
                {
                    (commit, Next) = (Next, Cut.None);
                    unseen = commit == Cut.BeforeTheServerUnseen;
                    if (commit != Cut.AfterTheServer)
                        return;
                }
                await server.SendAsync(buffer.AsMemory(0, length));
                if (commit == Cut.AfterTheServer)
                {
                    await answered.Task;
                    return;
                }
            }
            server.Shutdown(SocketShutdown.Send);
            await answers;
        }
        catch (SocketException)
        {
            // One side is gone; the other one follows.
        }
        finally
        {
            client.Dispose();
            if (!unseen)
                server.Dispose();
        }

        async Task AnswersAsync()
        {
            try
            {
                var buffer = new byte[1 << 16];
                while (await server.ReceiveAsync(buffer) is > 0 and var length)
                    if (commit == Cut.None)
                        await client.SendAsync(buffer.AsMemory(0, length));
                    else
                        break;
                client.Shutdown(SocketShutdown.Send);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // As above.
            }
            finally
            {
                answered.TrySetResult();
            }
        }
    }
}
