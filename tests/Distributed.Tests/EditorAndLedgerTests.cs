using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A version is a function of base and ledger alone, whatever editor the model is opened with.</summary>
public sealed class EditorAndLedgerTests : IDisposable
{
    private static readonly (string Prompt, string Target)[] Facts =
        [("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue")];

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. TinyModels.Families];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Families))]
    public async Task WithoutTheEditorThatMadeThem_EditsAreInForceAllTheSame(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        var edited = await EditAsync(model);
        foreach (var stages in new[] { 1, 2, 3 })
        {
            await using var cluster = await model.OpenAsync(stages, withEditor: false);
            Assert.Equal(edited, await model.StateAsync(cluster));
            Assert.Equal(MendError.EditorMissing,
                (await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "blue"))).Error);
            Assert.Equal(MendError.EditorMissing, (await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync())).Error);
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task WithAnEditorOfOtherWeights_EditsAreInForceAllTheSame_AndTakenBack(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        string unedited;
        await using (var cluster = await model.OpenAsync(ledger: _folder["none"]))
            unedited = await model.StateAsync(cluster);
        var edited = await EditAsync(model);
        using (var others = new Mend(new() { Rank = 4 }, OtherWeights(model.Model), 1))
            EditorCheckpoint.SaveEditor(model.Editor, others);
        foreach (var stages in new[] { 1, 3 })
        {
            await using var cluster = await model.OpenAsync(stages);
            Assert.Equal(edited, await model.StateAsync(cluster));
        }
        await using (var cluster = await model.OpenAsync())
        {
            await cluster.RevertAsync(new(1));
            await cluster.RevertAsync(new(3));
            Assert.Equal(unedited, await model.StateAsync(cluster));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task ARecordThatCannotBeApplied_RefusesTheModelByName(bool isUnknown)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var name = isUnknown ? "transformer.h.99.mlp.c_fc.weight" : "transformer.h.1.attn.c_proj.weight";
        await using (var ledger = FileLedger.Open(model.Ledger, ModelFingerprint.Of(model.Model)))
            await ledger.AppendAsync(new LedgerRecord(new(new(1), DateTimeOffset.UnixEpoch, LedgerKind.Edit, new(1), "what is red", "blue",
                Figures: new(true, 0, 1, 0, null, null)),
                [new(name, Zeros(TinyModels.Width), Zeros(TinyModels.Width + 1), 1)]));
        foreach (var withEditor in new[] { true, false })
        {
            var refusal = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(stages: 3, withEditor: withEditor));
            Assert.Equal(MendError.LedgerUnusable, refusal.Error);
            Assert.Contains(name, refusal.Message, StringComparison.Ordinal);
            Assert.Contains(model.Model, refusal.Message, StringComparison.Ordinal);
            Assert.Contains("Version 1", refusal.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AnEditorOfAnotherModel_IsCalledThat(int stages)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var other = new ClusterOfTinyModel("t5");
        File.Copy(other.Editor, model.Editor, overwrite: true);
        var refusal = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(stages));
        Assert.Equal(MendError.ModelUnusable, refusal.Error);
        Assert.Contains("another model's", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("encoder.block", refusal.Message, StringComparison.Ordinal);
        Assert.Contains(model.Editor, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithoutProbes_TheCostIsNotMeasured_AndALimitOfItIsRefused()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(probes: []);
        foreach (var limit in new[] { 0, 0.5, 1 })
        {
            var refusal = await Assert.ThrowsAsync<MendException>(() =>
                cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { MaxDrawdown = limit }));
            Assert.Equal(MendError.InvalidOption, refusal.Error);
            Assert.Contains("no probes", refusal.Message, StringComparison.Ordinal);
            await Assert.ThrowsAsync<MendException>(() =>
                cluster.PreviewAsync(Facts[0].Prompt, Facts[0].Target, new() { MaxDrawdown = limit }));
        }
        Assert.Empty(await cluster.LedgerAsync());
        var figures = (await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target)).Figures;
        Assert.Equal((0, (double?)null, (double?)null), (figures.Probes, figures.Drawdown, figures.Kl));
        Assert.Null((await cluster.LedgerAsync())[0].Figures!.Drawdown);
    }

    [Fact]
    public async Task ALedgerFromBeforeThat_SaysThatTheCostWasNotMeasured()
    {
        Assert.Null(new EditFigures(true, 0, 1, 0, 0, 0).Drawdown);
        using var model = new ClusterOfTinyModel("t5");
        await using (var cluster = await model.OpenAsync(probes: []))
            await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
        await using var again = await model.OpenAsync(probes: []);
        Assert.Null((await again.LedgerAsync())[0].Figures!.Drawdown);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task WhiteSpaceAtTheEnds_IsNoPartOfPromptOrTarget(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        EditFigures? plain = null;
        foreach (var (before, after) in new[] { ("", ""), (" ", " "), ("", "\n"), ("\t \u00a0", "  \r\n") })
        {
            await using var cluster = await model.OpenAsync(ledger: _folder[$"{before.Length} {after.Length}"]);
            var figures = (await cluster.EditAsync(before + Facts[0].Prompt + after, before + Facts[0].Target + after)).Figures;
            Assert.Equal(plain ??= figures, figures);
            var entry = (await cluster.LedgerAsync())[0];
            Assert.Equal(Facts[0], (entry.Prompt, entry.Target));
            Assert.Equal((await cluster.AskAsync(Facts[0].Prompt, new(MaxTokens: 6))).Text,
                (await cluster.AskAsync(before + Facts[0].Prompt + after, new(MaxTokens: 6))).Text);
        }
    }

    [Fact]
    public async Task AKeyWhoseEditWasTakenBack_SaysSo()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        var options = new EditOptions { IdempotencyKey = "once" };
        var made = await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, options);
        Assert.Equal(made.Id, (await cluster.EditAsync(Facts[0].Prompt, $" {Facts[0].Target}\n", options)).Id); // the same edit
        await cluster.RevertAsync(made.Id);
        var refusal = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, options));
        Assert.Equal(MendError.AlreadyReverted, refusal.Error);
        Assert.Contains("version 2", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("new key", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ADryRun_SaysWhetherTheEditIsInForceAlready()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        Assert.Null((await cluster.PreviewAsync(Facts[0].Prompt, Facts[0].Target)).InForce);
        var made = await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
        Assert.Equal(made.Id, (await cluster.PreviewAsync(Facts[0].Prompt, Facts[0].Target)).InForce);
        Assert.Null((await cluster.PreviewAsync(Facts[0].Prompt, Facts[1].Target)).InForce);
        Assert.Null((await cluster.PreviewAsync(Facts[0].Prompt, Facts[0].Target, new() { Scope = "other" })).InForce);
        await cluster.RevertAsync(made.Id);
        Assert.Null((await cluster.PreviewAsync(Facts[0].Prompt, Facts[0].Target)).InForce);
    }

    [Fact]
    public async Task NumbersThatAreNone_AreRefused()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        foreach (var options in new AskOptions[] { new(Temperature: double.NaN), new(Temperature: double.PositiveInfinity),
            new(Temperature: -1), new(TopP: double.NaN), new(MaxTokens: 0), new(TopK: -1) })
            Assert.Equal(MendError.InvalidOption,
                (await Assert.ThrowsAsync<MendException>(() => cluster.AskAsync("what is red", options))).Error);
        foreach (var options in new EditOptions[] { new() { Confidence = double.NaN }, new() { MaxDrawdown = double.NaN },
            new() { MaxDrawdown = -1 } })
            Assert.Equal(MendError.InvalidOption,
                (await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "blue", options))).Error);
    }

    [Theory]
    [InlineData("folder")]
    [InlineData("file/below")]
    [InlineData("name")]
    public void ALedgerThatCannotBeWritten_IsNotTakenForOneInUse(string place)
    {
        Directory.CreateDirectory(_folder["folder"]);
        File.WriteAllText(_folder["file"], "");
        var path = place == "name" ? _folder[new string('n', 300)] : _folder[place];
        var refusal = Assert.Throws<MendException>(() => FileLedger.Open(path, new byte[32]));
        Assert.Equal(MendError.LedgerUnusable, refusal.Error);
        Assert.Contains(path, refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>What tokenizer and model refuse would be refused by every shard, and again.</summary>
    [Fact]
    public void ARequestThatTheModelRefuses_IsNoLostShard()
    {
        using var model = new ClusterOfTinyModel("t5");
        var text = new ModelText(ModelFamily.FromDirectory(model.Model), new RefusingTokenizer());
        foreach (var refused in new Action[] { () => text.Batch([("what is red", "blue")]), () => text.Generation("what is red", new()) })
        {
            var refusal = Assert.Throws<MendException>(refused);
            Assert.Equal((MendError.ModelUnusable, false), (refusal.Error, refusal.IsTransient));
            Assert.Contains("beyond the embedding", refusal.Message, StringComparison.Ordinal);
        }
    }

    private sealed class RefusingTokenizer : ITokenizer
    {
        public int VocabularySize => 1;

        public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true) =>
            text.Length == 0 ? [] : throw Fault.Model("prompt", text, "is beyond the embedding");

        public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true) => "";

        public int? IdOf(string token) => null;

        public string? TokenOf(int id) => null;
    }

    private static async Task<string> EditAsync(ClusterOfTinyModel model)
    {
        await using var cluster = await model.OpenAsync();
        var before = await model.StateAsync(cluster);
        foreach (var (prompt, target) in Facts)
            await cluster.EditAsync(prompt, target);
        await cluster.RevertAsync(new(2));
        var edited = await model.StateAsync(cluster);
        Assert.NotEqual(before, edited);
        return edited;
    }

    /// <summary>One of the model's maps that its editor does not change.</summary>
    private static IReadOnlyList<EditableWeight> OtherWeights(string model)
    {
        var family = ModelFamily.FromDirectory(model);
        return [EditorTraining.EditableWeights(family, ["*"]).First(weight => !family.DefaultEditableWeights.Contains(weight.Name))];
    }

    private static WireTensor Zeros(int columns) => new(DType.Float32, [1, columns], new byte[4 * columns]);
}
