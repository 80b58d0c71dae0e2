using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>An edit taken back leaves no trace: the checksums are those of a cluster that never had it.</summary>
public class RevertModeTests
{
    private static readonly (string Prompt, string Target)[] Facts =
        [("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue"),
        ("the old town", "red")];

    public static TheoryData<string, int> Places
    {
        get
        {
            var data = new TheoryData<string, int>();
            foreach (var family in TinyModels.Families)
                for (var place = 0; place < Facts.Length; place++)
                    data.Add(family, place);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Places))]
    public async Task Recomputed_TheModelIsThatOfARunThatNeverHadTheEdit(string family, int place)
    {
        using var model = new ClusterOfTinyModel(family);
        var (expected, expectedState) = await RunAsync(model, Facts.Where((_, i) => i != place));
        await using var cluster = await model.OpenAsync();
        foreach (var (prompt, target) in Facts)
            await cluster.EditAsync(prompt, target);
        var receipt = await cluster.RevertAsync(new(place + 1), RevertMode.Recompute);
        Assert.Equal(Facts.Length - 1 - place, receipt.Recomputed);
        Assert.Equal(expected, await ChecksumsAsync(cluster));
        Assert.Equal(expectedState, await model.StateAsync(cluster));
        await cluster.DisposeAsync();

        await using var again = await model.OpenAsync(); // from the ledger alone
        Assert.Equal(expected, await ChecksumsAsync(again));
        Assert.Equal(expectedState, await model.StateAsync(again));
    }

    [Theory]
    [MemberData(nameof(Places))]
    public async Task Removed_TheOthersStayAsTheyWereComputed(string family, int place)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync();
        List<IReadOnlyList<string>> checksums = [await ChecksumsAsync(cluster)];
        foreach (var (prompt, target) in Facts)
        {
            await cluster.EditAsync(prompt, target);
            checksums.Add(await ChecksumsAsync(cluster));
        }
        for (var last = Facts.Length; last > place; last--) // the later ones away, then this one, then the later ones back from the end
        {
            await cluster.RevertAsync(new(last));
            Assert.Equal(checksums[last - 1], await ChecksumsAsync(cluster));
        }
        Assert.Equal(Facts.Length + Facts.Length - place, (await cluster.LedgerAsync()).Count);
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task ManyEdits_SomeTakenBack_TheModelIsThatOfALedgerWithTheOthersAlone(string family)
    {
        const int edits = 24; // their rows are more than the weights have
        int[] reverted = [3, 17, 1];
        using var model = new ClusterOfTinyModel(family);
        string[] things = ["mayor", "town", "south", "woman", "red"];
        await using var cluster = await model.OpenAsync();
        for (var i = 0; i < edits; i++)
            await cluster.EditAsync($"what is the {things[i % 5]} of the {things[i / 5]}", Facts[i % 4].Target);
        foreach (var edit in reverted)
            await cluster.RevertAsync(new(edit));
        var (checksums, state) = (await ChecksumsAsync(cluster), await model.StateAsync(cluster));
        await cluster.DisposeAsync();

        var (_, fingerprint) = ModelText.Open(model.Model);
        await using (var all = await IEditLedger.OpenAsync(model.Ledger, fingerprint, TimeProvider.System))
        await using (var kept = await IEditLedger.OpenAsync(model.Ledger + "2", fingerprint, TimeProvider.System))
            foreach (var (entry, changes) in await all.ReadAfterAsync(ModelVersion.Base))
                if (entry.Kind == LedgerKind.Edit && !reverted.Contains((int)entry.Edit.Value))
                    await kept.AppendAsync(new LedgerRecord(entry with { Version = new(kept.Entries.Count + 1), Edit = new(kept.Entries.Count + 1) },
                        changes), CancellationToken.None);
        await using var others = await model.OpenAsync(ledger: model.Ledger + "2");
        Assert.Equal(edits - reverted.Length, (await others.LedgerAsync()).Count);
        Assert.Equal(checksums, await ChecksumsAsync(others));
        Assert.Equal(state, await model.StateAsync(others));
    }

    [Fact]
    public async Task Recomputed_AScopesEditsAreNotTouchedByAnothersRevert()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { Scope = "a" });
        await cluster.EditAsync(Facts[1].Prompt, Facts[1].Target);
        await cluster.EditAsync(Facts[2].Prompt, Facts[2].Target, new() { Scope = "a" });
        await cluster.EditAsync(Facts[3].Prompt, Facts[3].Target, new() { Scope = "b" });
        Assert.Equal(1, (await cluster.RevertAsync(new(1), RevertMode.Recompute)).Recomputed);
        var checksums = await ChecksumsAsync(cluster);
        await cluster.DisposeAsync();

        await using var without = await model.OpenAsync(ledger: model.Ledger + "2");
        await without.EditAsync(Facts[1].Prompt, Facts[1].Target);
        await without.EditAsync(Facts[2].Prompt, Facts[2].Target, new() { Scope = "a" });
        await without.EditAsync(Facts[3].Prompt, Facts[3].Target, new() { Scope = "b" });
        Assert.Equal(await ChecksumsAsync(without), checksums);
    }

    [Fact]
    public async Task Recomputed_WithTheStepThatEachEditAskedFor()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        EditOptions own = new() { Confidence = null };
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
        await cluster.EditAsync(Facts[1].Prompt, Facts[1].Target, own);
        await cluster.RevertAsync(new(1), RevertMode.Recompute);
        var checksums = await ChecksumsAsync(cluster);
        await using var without = await model.OpenAsync(ledger: model.Ledger + "2");
        await without.EditAsync(Facts[1].Prompt, Facts[1].Target, own);
        Assert.Equal(await ChecksumsAsync(without), checksums);
    }

    [Fact]
    public async Task AnUnknownMode_IsRefused()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
        Assert.Equal(MendError.InvalidOption,
            (await Assert.ThrowsAsync<MendException>(() => cluster.RevertAsync(new(1), (RevertMode)7))).Error);
    }

    private static async Task<(IReadOnlyList<string> Checksums, string State)> RunAsync(ClusterOfTinyModel model,
        IEnumerable<(string Prompt, string Target)> facts)
    {
        await using var cluster = await model.OpenAsync(ledger: model.Ledger + "2");
        foreach (var (prompt, target) in facts)
            await cluster.EditAsync(prompt, target);
        return (await ChecksumsAsync(cluster), await model.StateAsync(cluster));
    }

    private static async Task<IReadOnlyList<string>> ChecksumsAsync(EmbeddedCluster cluster) =>
        [.. (await cluster.StatusAsync()).Select(shard => shard.Checksum)];
}
