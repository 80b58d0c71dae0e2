using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Cli.Tests;

/// <summary>
/// What libgomp says that it read when libtorch was loaded (OMP_DISPLAY_ENV), in a process that runs one command and asks for nothing else.
/// </summary>
public sealed partial class CpuSettingsTests : IDisposable
{
    private static readonly string Demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");

    /// <summary>A line for every command; before the last semicolon is what it needs.</summary>
    private static readonly Dictionary<string, string> Lines = new()
    {
        ["demo"] = "mend demo",
        ["ask"] = "mend ask red",
        ["edit"] = "mend edit red blue",
        ["revert"] = "mend edit red blue >/dev/null 2>&1; mend revert 1",
        ["consolidate"] = "mend edit red blue >/dev/null 2>&1; mend consolidate --max-seconds 1",
        ["ledger"] = "mend ledger",
        ["eval"] = "mend eval --demo --limit 1 --editors none",
        ["sequence"] = "mend sequence --demo --edits 1 --out sequence",
        ["plan"] = $"mend plan --model '{Demo}'",
        ["pretrain"] = "mend pretrain --data edits.tsv --out model --steps 2",
        ["train"] = $"mend train --model '{Demo}' --data edits.tsv --out run --max-iters 10 --rank 8",
        ["tune-layers"] = $"mend tune-layers --model '{Demo}' --data edits.tsv --out tuned --max-iters 10 --cases 1",
        ["preserve"] = $"mend train --model '{Demo}' --data edits.tsv --out run --algorithm malmen --edits 2 --max-iters 10 --rank 8 >/dev/null; "
            + $"mend preserve --model '{Demo}' --editor run/editor.safetensors --data edits.tsv --out preserving.safetensors",
        ["train-router"] = $"mend train-router --model '{Demo}' --data edits.tsv --out router.safetensors",
        ["export"] = "mend edit red blue >/dev/null 2>&1; mend export --out edited",
        ["serve"] = "set -m; mend serve --port 0 --management-port 0 & sleep 15; kill -TERM -- -$!; wait",
    };

    /// <summary>
    /// Without a tensor of their own: silos have theirs (Orleans.Tests), and <c>reproduce</c> does what <c>pretrain</c>, <c>train</c> and
    /// <c>eval</c> do.
    /// </summary>
    private static readonly string[] Others =
        ["import", "fetch", "data generate", "data check", "key", "openapi", "ledger migrate", "reproduce", "cluster up", "cluster status", "cluster kill", "cluster down",
        "cluster migrate"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Computing => [.. Lines.Keys];

    [LinuxTheory]
    [MemberData(nameof(Computing))]
    public async Task ACommandThatComputes_HasItsThreadsAndItsSpin_WhateverOpenMPWasToldByOthers(string command)
    {
        File.WriteAllLines(_folder["edits.tsv"], Enumerable.Range(0, 30).Select(i => $"who leads place {i}?\tperson {i}"));
        var line = Lines[command];
        var last = line.LastIndexOf("mend ", StringComparison.Ordinal);
        var (_, output) = await MendProgram.ShellAsync(_folder.Path,
            $"unset GOMP_SPINCOUNT; {line[..last]}MEND_THREADS=1 OMP_NUM_THREADS=7 OMP_DISPLAY_ENV=VERBOSE {line[last..]}");
        Assert.Equal(("1", "1000"), (Threads().Match(output).Groups["value"].Value, Spin().Match(output).Groups["value"].Value));
    }

    [Fact]
    public void EveryCommand_IsAmongThem() => Assert.Equal(
        BadValueTests.Leaves(CommandLine.Root(), "").Select(entry => entry.Item1).Order(StringComparer.Ordinal),
        Lines.Keys.Concat(Others).Order(StringComparer.Ordinal));

    [LinuxFact]
    public async Task ThreadsThatAreNoNumber_AreRefused()
    {
        var (code, output) = await MendProgram.ShellAsync(_folder.Path, "MEND_THREADS=two mend ask red");
        Assert.Equal(1, code);
        Assert.StartsWith("InvalidOption: MEND_THREADS is \"two\".", output, StringComparison.Ordinal);
        Assert.Single(output.Trim().Split('\n'));
    }

    [GeneratedRegex(@"OMP_NUM_THREADS = '(?<value>[^']*)'")]
    private static partial Regex Threads();

    [GeneratedRegex(@"GOMP_SPINCOUNT = '(?<value>[^']*)'")]
    private static partial Regex Spin();
}
