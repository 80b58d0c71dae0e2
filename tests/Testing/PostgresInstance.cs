using System.Diagnostics;
using System.Globalization;

namespace MendCluster.Testing;

/// <summary>
/// A PostgreSQL server of its own, in a temporary folder and reached through a socket there. It is gone after the test, and with this
/// process however that ends: a shell between them stops the server when its standard input is closed.
/// </summary>
public sealed class PostgresInstance : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    /// <summary>Runs a server, says its process, and ends it when the standard input ends. $0 is its log, the rest its command.</summary>
    private const string Watch =
        """exec 3<&0; "$@" </dev/null >"$0" 2>&1 3<&- & server=$!; echo $server; (cat <&3 >/dev/null; kill -INT $server 2>/dev/null) >/dev/null & wait $server""";

    private readonly TemporaryFolder _folder = new();
    private readonly string _programs = Programs();
    private Process? _shell;
    private int _server;

    /// <summary>Where its socket and its log are.</summary>
    public string Folder => _folder.Path;

    private string Data => _folder["data"];

    /// <summary>As the role that owns everything, unless another is named.</summary>
    public string Connection(string role = "owner", string database = "postgres") =>
        $"Host={_folder.Path};Database={database};Username={role}";

    public static async Task<PostgresInstance> StartNewAsync()
    {
        var server = new PostgresInstance();
        if (Environment.IsPrivilegedProcess)
            await RunAsync("chown", "nobody:", server._folder.Path);
        await RunAsync([.. Unprivileged(), Path.Combine(server._programs, "initdb"), "--no-sync", "--username=owner", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--pgdata", server.Data]);
        await server.StartAsync();
        return server;
    }

    /// <summary>Starts the server, again after it was stopped or killed, and waits until it takes connections.</summary>
    public async Task StartAsync()
    {
        // No fsync: these servers are killed, their machine is not.
        string[] command = [.. Unprivileged(), Path.Combine(_programs, "postgres"), "-D", Data, "-k", _folder.Path, "-c",
            "listen_addresses=", "-c", "fsync=off"];
        using var patience = new CancellationTokenSource(Patience);
        while (true)
        {
            _shell = Process.Start(new ProcessStartInfo("sh", ["-c", Watch, _folder["log"], .. command])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true
            })!;
            _server = int.Parse((await _shell.StandardOutput.ReadLineAsync())!, CultureInfo.InvariantCulture);
            while (!_shell.HasExited)
            {
                if (await TryRunAsync(Path.Combine(_programs, "pg_isready"), "--quiet", "--host", _folder.Path) == 0)
                    return;
                await Task.Delay(Pause);
                if (patience.IsCancellationRequested)
                    break;
            }
            if (patience.IsCancellationRequested)
                throw new InvalidOperationException($"PostgreSQL does not start: {File.ReadAllText(_folder["log"])}");
            await StopAsync(); // processes of a server that was killed had not all ended: it is started again
        }
    }

    public async Task StopAsync()
    {
        if (_shell is null)
            return;
        _shell.StandardInput.Close();
        await _shell.WaitForExitAsync();
        _shell.Dispose();
        _shell = null;
    }

    /// <summary>Ends the server at once, as a power failure would.</summary>
    public async Task KillAsync()
    {
        using (var server = Process.GetProcessById(_server))
            server.Kill();
        await StopAsync();
    }

    /// <summary>Runs SQL as the owner of everything.</summary>
    /// <returns>The rows, columns divided by "|".</returns>
    public Task<string> SqlAsync(string sql, string database = "postgres") =>
        RunAsync(Path.Combine(_programs, "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
        "--host", _folder.Path, "--username=owner", "--dbname", database, "--command", sql);

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _folder.Dispose();
    }

    /// <summary>The server refuses to run as root.</summary>
    private static string[] Unprivileged() => Environment.IsPrivilegedProcess
        ? ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"] : ["env"];

    private static string Programs() =>
        (Directory.Exists("/usr/lib/postgresql") ? Directory.EnumerateDirectories("/usr/lib/postgresql") : [])
            .Select(version => Path.Combine(version, "bin"))
            .Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator))
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, "postgres")) && File.Exists(Path.Combine(folder, "initdb")))
        ?? throw new InvalidOperationException("These tests start a PostgreSQL server, and there is none in /usr/lib/postgresql or PATH: apt-get install postgresql");

    private static async Task<string> RunAsync(params string[] command)
    {
        using var process = Process.Start(new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = "/"
        })!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output.TrimEnd('\n')
            : throw new InvalidOperationException($"{Path.GetFileName(command[0])}: {await error}");
    }

    private static async Task<int> TryRunAsync(params string[] command)
    {
        using var process = Process.Start(command[0], command[1..]);
        await process.WaitForExitAsync();
        return process.ExitCode;
    }
}
