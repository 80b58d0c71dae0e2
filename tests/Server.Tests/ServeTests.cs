using System.Diagnostics;
using System.Net;
using System.Text.RegularExpressions;
using MendCluster.Client;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

/// <summary><c>mend serve</c> as a process of its own, with the demo's model.</summary>
public sealed partial class ServeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [LinuxFact]
    public async Task ANewcomersServer_PrintsItsAddressAndAKey_EditsAFactWithinTheModelsBudget_AndStops()
    {
        using var served = await ServedProgram.StartAsync(_folder.Path, "serve", "--port", "0", "--management-port", "0", "--max-total-kl",
            "9");
        var (address, key) = (Address().Match(served.Output), Key().Match(served.Output));
        Assert.True(address.Success && key.Success, served.Output);
        await using (var cluster = new HttpCluster(new(address.Groups["uri"].Value), key.Groups["key"].Value))
        {
            const string question = "What club does Lionel Messi play for?";
            var before = await cluster.AskAsync(question);
            var receipt = await cluster.EditAsync(question, "Paris");
            Assert.Equal(1 - receipt.Figures.TotalKl!.Value / 9, receipt.Figures.BudgetLeft!.Value, 1e-9);
            Assert.NotEqual(before.Text, (await cluster.AskAsync(question)).Text);
            await cluster.RevertAsync(receipt.Id);
            Assert.Equal(before.Text, (await cluster.AskAsync(question)).Text);
            using var page = new HttpClient();
            var console = await page.GetAsync(address.Groups["uri"].Value);
            Assert.Equal(("text/html", HttpStatusCode.OK), (console.Content.Headers.ContentType!.MediaType, console.StatusCode));
            Assert.Contains("default-src 'none'", console.Headers.GetValues("Content-Security-Policy").Single(), StringComparison.Ordinal);
        }
        var (code, output) = await served.StopAsync();
        Assert.True(code == 0, output);
        Assert.Contains("Stopped.", output, StringComparison.Ordinal);
        var ledger = await MendProgram.RunAsync(_folder.Path, "ledger");
        Assert.Contains("revert of 1", ledger.Output, StringComparison.Ordinal);
    }

    [LinuxFact]
    public async Task AFrontProcess_ServesAClusterThatIsUp_WithKeysOfAFile()
    {
        Assert.Equal(0, (await MendProgram.RunAsync(_folder.Path, "cluster", "up", "--silos", "1", "--max-total-kl", "9")).Code);
        try
        {
            var made = await MendProgram.RunAsync(_folder.Path, "key", "alice", "--right", "edit", "--keys", "keys.json");
            Assert.True(made.Code == 0, made.Output);
            using var served = await ServedProgram.StartAsync(_folder.Path, "serve", "--cluster", "mend.cluster", "--keys", "keys.json",
                "--port", "0", "--management-port", "0");
            Assert.DoesNotContain("Key", served.Output, StringComparison.Ordinal);
            await using var cluster = new HttpCluster(new(Address().Match(served.Output).Groups["uri"].Value), made.Output.Trim());
            var receipt = await cluster.EditAsync("What club does Lionel Messi play for?", "Paris");
            Assert.Equal(1 - receipt.Figures.TotalKl!.Value / 9, receipt.Figures.BudgetLeft!.Value, 1e-9);
            Assert.Equal("alice", (await cluster.LedgerAsync()).Single().Author);
            Assert.Equal("Paris", string.Concat(await cluster.AskStreamAsync("What club does Lionel Messi play for?")
                .Select(part => part.Text).ToListAsync()));
            Assert.Equal([new ShardPlace(0, 0)], (await cluster.ShardsAsync()).Select(shard => shard.Place));
            Assert.Equal((receipt.Id, new ModelVersion(2)),
                ((await cluster.RevertAsync(receipt.Id)).Id, (await cluster.LedgerAsync())[^1].Version));
            Assert.Equal(0, (await served.StopAsync()).Code);
        }
        finally
        {
            await MendProgram.RunAsync(_folder.Path, "cluster", "down");
        }
    }

    [Theory]
    [InlineData("--address", "here", "Address is 'here'")]
    [InlineData("--keys", "none.json", "cannot be used")]
    [InlineData("--port", "8081", "two ports")]
    public async Task WhatCannotBeServed_IsRefusedInALine(string option, string value, string why)
    {
        var (code, output) = await MendProgram.RunAsync(_folder.Path, "serve", option, value);
        Assert.True(code == 1, output);
        Assert.Contains(why, output, StringComparison.Ordinal);
        Assert.Single(output.Trim().Split('\n'));
    }

    [Fact]
    public async Task ASettingThatIsNone_IsRefused()
    {
        await File.WriteAllTextAsync(_folder["settings.json"], """{"Mend": {"Server": {"Prot": 1}}}""");
        var (code, output) = await MendProgram.RunAsync(_folder.Path, "serve", "--settings", "settings.json");
        Assert.Equal(1, code);
        Assert.Contains("Mend:Server:Prot is no setting", output, StringComparison.Ordinal);
    }

    [GeneratedRegex(@" at (?<uri>http://127\.0\.0\.1:\d+/);")]
    private static partial Regex Address();

    [GeneratedRegex(@"(?<key>mend_[0-9a-f]{64})")]
    private static partial Regex Key();
}

/// <summary>The built program, while it serves.</summary>
internal sealed class ServedProgram : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private readonly Process _process;
    private readonly System.Text.StringBuilder _output = new();

    private ServedProgram(Process process) => _process = process;

    public string Output
    {
        get
        {
            lock (_output)
                return _output.ToString();
        }
    }

    /// <summary>Waits until it has said where it is, and all lines that come with that.</summary>
    public static async Task<ServedProgram> StartAsync(string folder, params string[] arguments)
    {
        var program = Path.Combine(FixtureFolder.Repository, "artifacts", "bin", "Cli", "release", "mend.dll");
        var process = Process.Start(new ProcessStartInfo("dotnet", [program, .. arguments])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        })!;
        var served = new ServedProgram(process);
        process.OutputDataReceived += (_, line) => served.Take(line.Data);
        process.ErrorDataReceived += (_, line) => served.Take(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        using var patience = new CancellationTokenSource(Patience);
        while (!served.Output.Contains("Serving ", StringComparison.Ordinal))
        {
            Assert.False(process.HasExited || patience.IsCancellationRequested, served.Output);
            await Task.Delay(20);
        }
        await Task.Delay(200);
        return served;
    }

    /// <summary>Tells it to stop.</summary>
    public async Task<(int Code, string Output)> StopAsync()
    {
        using var stop = Process.Start("sh", ["-c", $"kill -TERM {_process.Id}"]);
        await stop.WaitForExitAsync();
        await _process.WaitForExitAsync();
        return (_process.ExitCode, Output);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
    }

    private void Take(string? line)
    {
        lock (_output)
            _output.AppendLine(line);
    }
}
