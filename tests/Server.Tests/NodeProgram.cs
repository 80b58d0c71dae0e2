using System.Diagnostics;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

/// <summary>A program of tests/Web, with its packages.</summary>
internal sealed class NodeProgram : IDisposable
{
    private static readonly Lazy<Task> Packages = new(InstallAsync);

    private readonly Process _process;

    private NodeProgram(Process process) => _process = process;

    private static string Folder => Path.Combine(FixtureFolder.Repository, "tests", "Web");

    public static async Task<NodeProgram> StartAsync(params string[] arguments)
    {
        await Packages.Value;
        return new(Start("node", arguments));
    }

    /// <returns>Its standard output.</returns>
    public static async Task<string> RunAsync(params string[] arguments)
    {
        await Packages.Value;
        return await ReadAsync(Start("node", arguments));
    }

    public async Task<string> LineAsync() => await _process.StandardOutput.ReadLineAsync()
        ?? throw new InvalidOperationException(await _process.StandardError.ReadToEndAsync());

    public async Task<string> AskAsync(string line)
    {
        await _process.StandardInput.WriteLineAsync(line);
        await _process.StandardInput.FlushAsync();
        return await LineAsync();
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        if (!_process.WaitForExit(TimeSpan.FromSeconds(5)))
            _process.Kill();
        _process.Dispose();
    }

    private static async Task InstallAsync()
    {
        using var taken = new FileStream(Path.Combine(Path.GetTempPath(), "mend-npm.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite,
            FileShare.None);
        var installed = Path.Combine(Folder, "node_modules", ".package-lock.json");
        if (!File.Exists(installed)
            || File.GetLastWriteTimeUtc(installed) < File.GetLastWriteTimeUtc(Path.Combine(Folder, "package-lock.json")))
            await ReadAsync(Start("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"));
    }

    private static Process Start(string program, params string[] arguments) => Process.Start(new ProcessStartInfo(program, arguments)
    {
        WorkingDirectory = Folder,
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;

    private static async Task<string> ReadAsync(Process process)
    {
        using (process)
        {
            var error = process.StandardError.ReadToEndAsync();
            var output = await process.StandardOutput.ReadToEndAsync();
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 0,
                $"{process.StartInfo.FileName} {string.Join(' ', process.StartInfo.ArgumentList)}: {output}{await error}");
            return output;
        }
    }
}
