using System.Diagnostics;
using System.Text.Json;
using MendCluster.Testing;

namespace MendCluster.Cli.Tests;

public class GpuKitTests
{
    /// <summary>
    /// bench/gpu/run.sh on the CPU with this build's programs and small models: every part of it is there but the script in PyTorch, which
    /// few machines that build have, and it says so.
    /// </summary>
    [LinuxFact]
    [Trait("Category", "Slow")]
    public async Task DryRun_MeasuresEveryModelAndLeavesNothingOutSilently()
    {
        using var folder = new TemporaryFolder();
        var start = new ProcessStartInfo("bash",
            ["bench/gpu/run.sh", "--device", "cpu", "--small", "--tests", "~MendTests", "--built", "artifacts/bin/Bench/release", "--out",
            folder.Path])
        {
            WorkingDirectory = FixtureFolder.Repository,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, output + await error);

        using var written = JsonDocument.Parse(await File.ReadAllTextAsync(Assert.Single(Directory.EnumerateFiles(folder.Path, "*.json"))));
        var root = written.RootElement;
        Assert.EndsWith("passed, 0 failed, 0 skipped", root.GetProperty("tests").GetString(), StringComparison.Ordinal);
        var models = root.GetProperty("measured");
        Assert.Equal(3, models.EnumerateObject().Count());
        foreach (var model in models.EnumerateObject())
        {
            foreach (var stages in new[] { "ours-1", "ours-2" })
                foreach (var figure in new[] { "load_s", "edit_ms", "step_ms", "tokens_s", "memory_after_training_gb" })
                    Assert.True(model.Value.GetProperty(stages).GetProperty(figure).GetDouble() > 0, $"{model.Name}, {stages}, {figure}");
            Assert.True(model.Value.TryGetProperty("reference", out _)
                || model.Value.GetProperty("left-out").TryGetProperty("reference", out _), $"{model.Name}, reference");
        }
        var table = await File.ReadAllTextAsync(Assert.Single(Directory.EnumerateFiles(folder.Path, "*.md")));
        Assert.Contains("| plain PyTorch |", table, StringComparison.Ordinal);
    }
}
