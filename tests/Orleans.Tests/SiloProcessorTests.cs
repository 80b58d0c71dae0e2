using System.Diagnostics;
using System.Text.Json;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>What silos in processes of their own take of the CPU.</summary>
public sealed class SiloProcessorTests : IDisposable
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    private readonly TemporaryFolder _folder = new();

    public SiloProcessorTests() => TinyModels.Write(Directory.CreateDirectory(_folder["tiny"]).FullName, "gpt2");

    public void Dispose() => _folder.Dispose();

    [LinuxFact]
    [Trait("Category", "Slow")]
    public async Task SilosBesideEachOther_WaitShortly_AndTakeNoCpuWhenTheyAreIdle()
    {
        await MendAsync("unset GOMP_SPINCOUNT; MEND_THREADS=2 OMP_DISPLAY_ENV=VERBOSE", "cluster up --silos 2 --model tiny");
        try
        {
            foreach (var silo in new[] { "silo-0", "silo-1" })
            {
                var log = await File.ReadAllTextAsync(_folder[$"mend.cluster/{silo}.log"]);
                Assert.Contains("GOMP_SPINCOUNT = '1000'", log, StringComparison.Ordinal);
                Assert.Contains("OMP_NUM_THREADS = '2'", log, StringComparison.Ordinal);
                Assert.Contains("spin 1000", log, StringComparison.Ordinal);
            }
            await MendAsync("", "ask red --cluster mend.cluster");
            using var processes = JsonDocument.Parse(await File.ReadAllBytesAsync(_folder["mend.cluster/processes.json"]));
            foreach (var silo in processes.RootElement.EnumerateArray())
            {
                using var process = Process.GetProcessById(silo.GetProperty("Pid").GetInt32());
                var least = Second;
                for (var i = 0; i < 10; i++) // what else a silo does now and then is not meant
                {
                    process.Refresh();
                    var before = process.TotalProcessorTime;
                    await Task.Delay(Second);
                    process.Refresh();
                    least = least < process.TotalProcessorTime - before ? least : process.TotalProcessorTime - before;
                }
                Assert.InRange(least, TimeSpan.Zero, Second / 4);
            }
        }
        finally
        {
            await MendAsync("", "cluster down");
        }
    }

    [LinuxFact]
    [Trait("Category", "Slow")]
    public async Task ASiloWithoutThreads_IsRefused()
    {
        var (code, output) = await MendProgram.ShellAsync(_folder.Path, "MEND_THREADS=none mend cluster up --silos 1 --model tiny");
        Assert.Equal(1, code);
        Assert.Contains("MEND_THREADS is \"none\"", output, StringComparison.Ordinal);
    }

    private async Task MendAsync(string variables, string arguments)
    {
        var (code, output) = await MendProgram.ShellAsync(_folder.Path, $"{variables} mend {arguments}");
        Assert.True(code == 0, $"mend {arguments}: {output}");
    }
}
