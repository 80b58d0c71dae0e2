using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>A cluster edits with whatever editor the file holds; the transaction is the same.</summary>
public class EditorKindTests
{
    [Theory]
    [InlineData("malmen")]
    [InlineData("ultraedit")]
    public async Task AnEditorOfAnotherKind_EditsAndIsTakenBack(string kind)
    {
        using var model = new ClusterOfTinyModel("t5");
        Write(model, kind);
        string untouched, edited;
        await using (var cluster = await model.OpenAsync(stages: 2))
        {
            untouched = await model.StateAsync(cluster);
            var receipt = await cluster.EditAsync("who is the mayor", "a woman");
            Assert.True(receipt.Figures.ProbabilityAfter > receipt.Figures.ProbabilityBefore, receipt.Figures.ToString());
            edited = await model.StateAsync(cluster);
            Assert.NotEqual(untouched, edited);
        }
        await using var again = await model.OpenAsync(stages: 3);
        Assert.Equal(edited, await model.StateAsync(again));
        await again.RevertAsync(new(1));
        Assert.Equal(untouched, await model.StateAsync(again));
    }

    [Fact]
    public async Task Rounds_BringAnEditCloser_AlikeOnEveryCutOfTheModel_AndEndWhenItIsThere()
    {
        var one = await EditAsync(rounds: 1, stages: 1, confidence: null);
        var three = await EditAsync(rounds: 3, stages: 1, confidence: null);
        Assert.True(three.ProbabilityAfter > 1.2 * one.ProbabilityAfter, $"{one} {three}");
        Assert.Equal(three.ProbabilityAfter, (await EditAsync(rounds: 3, stages: 3, confidence: null)).ProbabilityAfter, 1e-3);

        const double large = 0.01; // a step that makes the edit
        var needed = 1;
        while (!(await EditAsync(needed, stages: 1, confidence: null, large)).Success)
            needed++;
        Assert.InRange(needed, 1, 8);
        Assert.Equal(await EditAsync(needed, stages: 3, confidence: 0, large), await EditAsync(needed + 5, stages: 3, confidence: 0, large));

        async Task<EditFigures> EditAsync(int rounds, int stages, double? confidence, double editLr = 1e-3)
        {
            using var model = new ClusterOfTinyModel("t5");
            Write(model, "malmen", rounds, editLr);
            await using var cluster = await model.OpenAsync(stages: stages);
            return (await cluster.EditAsync("who is the mayor", "a", new() { Confidence = confidence })).Figures;
        }
    }

    /// <summary>
    /// With steps that are too large one round leads farther from the target than the one before. An edit is then what those before made of it.
    /// </summary>
    [Fact]
    public async Task ARoundThatDoesHarm_IsNotTaken()
    {
        var harmless = 0;
        foreach (var editLr in new[] { 0.003, 0.03, 0.1, 0.3 })
        {
            var best = double.NegativeInfinity;
            for (var rounds = 2; rounds <= 5; rounds++) // of one, nothing fades
            {
                using var model = new ClusterOfTinyModel("t5");
                Write(model, "malmen", rounds, editLr);
                await using var cluster = await model.OpenAsync(probes: []);
                var figures = (await cluster.PreviewAsync("who is the mayor", "a", new() { Confidence = null })).Figures;
                Assert.True(figures.ProbabilityAfter >= best * (1 - 1e-6), $"{rounds} rounds at {editLr}: {figures.ProbabilityAfter} after {best}");
                harmless += figures.ProbabilityAfter > best ? 0 : 1;
                best = figures.ProbabilityAfter;
            }
        }
        Assert.True(harmless > 0, "no round would have done harm");
    }

    /// <summary>The rounds before it are what they are without it.</summary>
    [Fact]
    public async Task ALaterRoundThatIsNotFinite_IsNotTaken()
    {
        using var model = new ClusterOfTinyModel("t5");
        Write(model, "malmen", rounds: 3, editLr: 0.003);
        EditOptions options = new() { Confidence = null };
        await using var once = await model.OpenAsync(stages: 2, wrap: shard => new Rounds(shard, most: 1), ledger: model.Ledger + ".once");
        var expected = (await once.PreviewAsync("who is the mayor", "a", options)).Figures;
        var calls = 0; // the second round has passed the upper stage when the lower one overflows
        await using var cluster = await model.OpenAsync(stages: 2, wrap: shard => new Rounds(shard, overflows: () => ++calls == 4));
        Assert.Equal(expected, (await cluster.PreviewAsync("who is the mayor", "a", options)).Figures);
        await using var plain = await model.OpenAsync(stages: 2, ledger: model.Ledger + ".plain");
        Assert.NotEqual(expected, (await plain.PreviewAsync("who is the mayor", "a", options)).Figures);
    }

    /// <summary>A shard whose editor takes no more rounds than it is told, or overflows.</summary>
    private sealed class Rounds(IModelShard shard, int most = int.MaxValue, Func<bool>? overflows = null) : ShardDecorator(shard)
    {
        public override async Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default)
        {
            if (overflows?.Invoke() == true)
                throw new MendException(MendError.NotFinite, "The update overflows.", "None.");
            var reply = await base.BackwardAsync(request, cancellation);
            return reply with { Rounds = Math.Min(reply.Rounds, most) };
        }
    }

    /// <summary>Nothing is trained: the same editor, told what to leave alone.</summary>
    [Fact]
    public async Task KeysThatATrainedEditorIsGiven_KeepItsEditsFromTheirQuestions()
    {
        using var model = new ClusterOfTinyModel("t5");
        Write(model, "malmen", editLr: 0.01);
        var preserving = model.Editor + ".preserving";
        LocalTraining.Preserve(model.Model, model.Editor, [new("what is red", "blue"), new("the old town", "south")], rounds: 2, beta: 100,
            preserving);
        using (var loaded = (Malmen)EditorCheckpoint.Load(preserving))
            Assert.Equal((true, 2, 100.0), (loaded.Preserves, loaded.Rounds, loaded.Options.Beta));
        using (var given = (Malmen)EditorCheckpoint.Load(model.Editor))
            Assert.Equal((false, 1), (given.Preserves, given.Rounds));

        var plain = await KlAsync();
        File.Move(preserving, model.Editor, overwrite: true);
        var around = await KlAsync();
        Assert.True(around < plain / 2, $"{around} against {plain}");

        async Task<double> KlAsync()
        {
            await using var cluster = await model.OpenAsync(ledger: model.Ledger + Guid.NewGuid());
            return (await cluster.PreviewAsync("who is the mayor", "a", new() { Confidence = null })).Figures.Kl!.Value;
        }
    }

    /// <summary>
    /// Edits of a sequential editor: alike on every cut of the model, to the same bits after a restart, and each can be taken back.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task EditsGoRoundThoseBefore_OnEveryCutOfTheModel_AndAfterARestart(int rounds)
    {
        (string Prompt, string Target)[] edits = [("who is the mayor", "a"), ("what is red", "the south"), ("the old town", "red")];
        EditOptions options = new() { Confidence = null };
        using var model = new ClusterOfTinyModel("t5");
        Write(model, "malmen", rounds, editLr: 0.01, sequential: true);
        string untouched, two, three;
        double alone, after;
        await using (var cluster = await model.OpenAsync(stages: 3, replicas: 2))
        {
            untouched = await model.StateAsync(cluster);
            alone = (await cluster.PreviewAsync(edits[1].Prompt, edits[1].Target, options)).Figures.ProbabilityAfter;
            foreach (var (prompt, target) in edits[..2])
                await cluster.EditAsync(prompt, target, options);
            two = await model.StateAsync(cluster);
        }
        await using (var again = await model.OpenAsync(stages: 1))
        {
            Assert.Equal(two, await model.StateAsync(again));
            await again.EditAsync(edits[2].Prompt, edits[2].Target, options);
            three = await model.StateAsync(again);
            await again.RevertAsync(new(3));
            Assert.Equal(two, await model.StateAsync(again));
            // without the first, the second is what it would have been alone
            await again.RevertAsync(new(1), RevertMode.Recompute);
            after = (await again.LedgerAsync())[^1].Figures?.ProbabilityAfter ?? (await again.PreviewAsync(edits[1].Prompt, edits[1].Target, options)).Figures.ProbabilityBefore;
            Assert.Equal(alone, after, 1e-5);
            await again.RevertAsync(new(2));
            Assert.Equal(untouched, await model.StateAsync(again));
        }
        // the third after a restart is the third without one
        await using var undisturbed = await model.OpenAsync(stages: 2, ledger: model.Ledger + ".undisturbed");
        foreach (var (prompt, target) in edits)
            await undisturbed.EditAsync(prompt, target, options);
        Assert.NotEqual(two, three);
        Assert.Equal(three, await model.StateAsync(undisturbed));
    }

    [Fact]
    public async Task EditsThatAreNotSeenTogether_DoNotGoRoundEachOther_NorDoRoutedOnes()
    {
        EditOptions inA = new() { Confidence = null, Scope = "a" }, inB = inA with { Scope = "b" };
        using var model = new ClusterOfTinyModel("gpt2");
        Write(model, "malmen", editLr: 0.01, sequential: true);
        await using (var cluster = await model.OpenAsync(probes: []))
        {
            var alone = (await cluster.PreviewAsync("what is red", "the south", inB)).Figures;
            await cluster.EditAsync("who is the mayor", "a", inA);
            Assert.Equal(alone, (await cluster.PreviewAsync("what is red", "the south", inB)).Figures);
            await cluster.EditAsync("who is the mayor", "a", inA with { Scope = null });
            Assert.NotEqual(alone.ProbabilityAfter, (await cluster.PreviewAsync("what is red", "the south", inB)).Figures.ProbabilityAfter);
        }
        await using var routed = await model.OpenAsync(probes: [], ledger: model.Ledger + ".routed", router: model.WriteRouter());
        var first = (await routed.PreviewAsync("what is red", "the south", inB)).Figures;
        await routed.EditAsync("who is the mayor", "a", inA with { Scope = null });
        Assert.Equal(first, (await routed.PreviewAsync("what is red", "the south", inB)).Figures);
    }

    [Fact]
    public async Task AnEditSpoilsAnEarlierOneLess_IfItGoesRoundIt()
    {
        var plain = await KeptAsync(sequential: false);
        var around = await KeptAsync(sequential: true);
        Assert.True(around > plain, $"{around} against {plain}");

        // how probable the first target is after the second edit, to what it was before
        async Task<double> KeptAsync(bool sequential)
        {
            using var model = new ClusterOfTinyModel("t5");
            Write(model, "malmen", editLr: 0.01, sequential: sequential);
            await using var cluster = await model.OpenAsync(probes: []);
            EditOptions options = new() { Confidence = null };
            var first = (await cluster.EditAsync("who is the mayor", "a", options)).Figures;
            await cluster.EditAsync("the mayor is who", "the south", options);
            var now = (await cluster.PreviewAsync("who is the mayor", "a", options)).Figures.ProbabilityBefore;
            return Math.Log(now) - Math.Log(first.ProbabilityAfter);
        }
    }

    [Fact]
    public void AnEditorThatGoesRoundNoKeys_IsRefused()
    {
        using var model = new ClusterOfTinyModel("t5");
        var refusal = Assert.Throws<MendException>(() =>
            LocalTraining.Preserve(model.Model, model.Editor, [new("what is red", "blue")], null, null, model.Editor + ".new"));
        Assert.Contains("is Mend, expected Malmen", refusal.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(model.Editor + ".new"));
    }

    internal static void Write(ClusterOfTinyModel model, string kind, int rounds = 1, double editLr = 1e-3,
        bool sequential = false)
    {
        using var scope = NewDisposeScope();
        using var files = HuggingFaceDirectory.Open(model.Model);
        using var stage = Stage.LoadWhole(ModelFamily.FromDirectory(model.Model), new CheckpointWeights(files, ScalarType.Float32));
        var text = new TextBatch(stage.Family, TokenizerFiles.Load(model.Model));
        var weights = EditorTraining.EditableWeights(stage);
        IReadOnlyDictionary<string, Engine.GradientFactors> Factors(string prompt, string target) =>
            TrainingStep.Record(stage, text.Of([(prompt, target)])).Factors;
        var seen = new[] { Factors("what is red", "blue"), Factors("the old town", "south"),
            Factors("who is the mayor of the old town", "a woman") };
        if (kind == "malmen")
        {
            using var malmen = new Malmen(new() { Rank = 6, EditLr = editLr, Rounds = rounds, Sequential = sequential }, weights, 1);
            foreach (var factors in seen)
                malmen.AddToStatistics(factors);
            EditorCheckpoint.SaveEditor(model.Editor, malmen);
        }
        else
        {
            using var ultra = new UltraEdit(new() { EditLr = 1e-3 }, weights);
            foreach (var factors in seen)
                ultra.AddToStatistics(factors);
            EditorCheckpoint.SaveEditor(model.Editor, ultra);
        }
    }
}
