using System.Diagnostics;
using System.Text.Json;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>Silos in processes of their own, started by the real program, and killed as a power failure would.</summary>
public sealed class ProcessTests : IAsyncLifetime, IDisposable
{
    private const int Silos = 3;
    private const string Prompt = "who is the mayor";

    private readonly TemporaryFolder _folder = new();

    private string Model => _folder["tiny"];

    public async Task InitializeAsync()
    {
        TinyModels.Write(Directory.CreateDirectory(Model).FullName, "gpt2");
        await MendAsync("cluster", "up", "--silos", $"{Silos}", "--model", Model);
    }

    public Task DisposeAsync() => MendAsync("cluster", "down");

    public void Dispose() => _folder.Dispose();

    [Fact]
    [Trait("Category", "Slow")]
    public async Task SilosKilledInTheMiddleOfEdits_LoseNoAcknowledgedEdit_AndLeaveNoHalfOfOne()
    {
        await using var client = await OrleansCluster.ConnectAsync(Path.Combine(_folder["mend.cluster"], "members.json"), "model");
        client.RetryTimeout = TimeSpan.FromMinutes(2);
        List<EditReceipt> receipts = [];
        string[] targets = ["a woman", "the south", "red", "blue"];
        for (var silo = 0; silo < Silos; silo++) // the coordinator is first on silo-0, then where it went
        {
            receipts.Add(await client.EditAsync(Prompt, targets[silo]));
            var edit = client.EditAsync("what is red", targets[silo + 1]);
            await KillAsync(silo);
            await MendAsync("cluster", "up");
            receipts.Add(await edit);
        }
        await client.RevertAsync(receipts[2].Id);

        // Every receipt is in the ledger once, in order, and the model is that of a cluster in one process that did the same.
        var ledger = await client.LedgerAsync();
        Assert.Equal(receipts.Select(receipt => (receipt.Id, (EditFigures?)receipt.Figures)),
            ledger.SkipLast(1).Select(entry => (entry.Edit, entry.Figures)));
        await using var embedded =
            await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = Model,
                Editor = Path.Combine(Model, "editor.safetensors"),
                Ledger = _folder["ledger"],
                Stages = Silos
            });
        foreach (var entry in ledger)
            if (entry.Kind == LedgerKind.Edit)
                Assert.Equal(entry.Figures, (await embedded.EditAsync(entry.Prompt!, entry.Target!)).Figures);
            else
                await embedded.RevertAsync(entry.Edit);
        foreach (var question in new[] { Prompt, "what is red", "the old town" })
            Assert.Equal(await embedded.AskAsync(question, new(MaxTokens: 6)), await client.AskAsync(question, new(MaxTokens: 6)));
        Assert.All(await client.StatusAsync(), shard => Assert.Equal(new ModelVersion(ledger.Count), shard!.Version));
    }

    [Fact]
    [Trait("Category", "Slow")]
    public async Task TheCommands_SpeakToTheClusterThatIsUp()
    {
        Assert.Contains("Edit 1:", await MendAsync("edit", Prompt, "a woman", "--cluster", "mend.cluster"), StringComparison.Ordinal);
        Assert.Contains("a woman", await MendAsync("ledger", "--cluster", "mend.cluster"), StringComparison.Ordinal);
        await MendAsync("cluster", "kill", "1");
        Assert.Contains("does not run", await MendAsync("cluster", "status"), StringComparison.Ordinal);
        Assert.DoesNotContain("does not run", await MendAsync("cluster", "up"), StringComparison.Ordinal);
        Assert.Contains("taken back", await MendAsync("revert", "1", "--cluster", "mend.cluster"), StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public async Task ATrainerThatIsKilled_GoesOnFromItsCheckpoint_ToTheSameBits()
    {
        await File.WriteAllLinesAsync(_folder["edits.tsv"], TrainerTests.Questions);
        await TrainerTests.EmbeddedAsync(Model, replicas: 1, stages: Silos, _folder["edits.tsv"], _folder["embedded"]);
        await using var client = await OrleansCluster.ConnectAsync(Path.Combine(_folder["mend.cluster"], "members.json"), "model");
        client.RetryTimeout = TimeSpan.FromMinutes(2);
        var killed = Task.CompletedTask;
        var result = await client.Trainer(new(TrainerTests.Training, _folder["edits.tsv"], _folder["cluster"]))
            .TrainAsync(new TrainerTests.Steps(step =>
        {
            if (step.Iteration == 30)
                killed = KillAndStartAsync(0); // the trainer is on silo-0, and the first stage
        }));
        await killed;
        Assert.Equal("max_iters", result.Stopped);
        TrainerTests.AssertSameRuns(_folder["embedded"], _folder["cluster"]);

        // The command, given the settings of a run folder, makes the same run in its own words.
        Assert.Contains("max_iters",
            await MendAsync("train", "--config", "cluster/config.json", "--data", "edits.tsv", "--out", "again", "--cluster",
            "mend.cluster"), StringComparison.Ordinal);
        TrainerTests.AssertSameRuns(_folder["embedded"], _folder["again"]);
        var refused = await MendProgram.RunAsync(_folder.Path, "train", "--data", "edits.tsv", "--out", "other", "--cluster",
            "mend.cluster", "--stages", "2");
        Assert.Equal(1, refused.Code);
        Assert.Contains("--stages and --cluster were both given", refused.Output, StringComparison.Ordinal);

        async Task KillAndStartAsync(int silo)
        {
            await KillAsync(silo);
            await MendAsync("cluster", "up");
        }
    }

    /// <summary>At once: the edit that was just sent is under way.</summary>
    private async Task KillAsync(int silo)
    {
        using var processes = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(_folder["mend.cluster"], "processes.json")));
        using var process = Process.GetProcessById(processes.RootElement[silo].GetProperty("Pid").GetInt32());
        process.Kill();
        await process.WaitForExitAsync();
    }

    private async Task<string> MendAsync(params string[] arguments)
    {
        var (code, output) = await MendProgram.RunAsync(_folder.Path, arguments);
        Assert.True(code == 0, $"mend {string.Join(' ', arguments)}: {output}");
        return output;
    }
}
