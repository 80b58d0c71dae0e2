using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Parity;

/// <summary>
/// Every configuration of the editor against the published code, in reference mode (its signs and its order of statistics).
/// </summary>
[Trait("Category", "Parity")]
public class MendParityTests
{
    private const double Lr = 1e-3;

    public static TheoryData<string> Editors => Fixtures.Editors;

    public static TheoryData<string> Loops => Fixtures.Loops;

    [Theory]
    [MemberData(nameof(Editors))]
    public void AnEdit_IsThePublishedCodes(string configuration)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, configuration));
        using var stage = Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"));
        using var mend = Editor(reference, stage, "state/");
        var before = mend.State.ToDictionary(entry => entry.Name, entry => entry.Value.clone());
        foreach (var block in reference.Strings("blocks").Where(block => block != "train"))
        {
            var batch = reference.EditBatch($"{block}/batch/", stage.Family);
            var (_, factors) = TrainingStep.Record(stage, batch.Inner);
            var updates = mend.Propose(factors);
            CheckFactors(reference, block, factors, updates);
            foreach (var (name, update) in updates)
            {
                var dense = stage.Weights.Loaded[name].IsTransposed ? update.ToDense().t() : update.ToDense();
                Reference.Same($"{configuration} {block}/update/{name}", reference[$"{block}/update/{name}"], dense, Tolerance.Factors);
            }
            using var _ = no_grad();
            CheckFigures(reference, block, stage, batch,
                TrainingStep.Evaluate(stage, new WeightUpdates(updates), batch, Weights(reference)).Figures, new WeightUpdates(updates));
        }
        foreach (var (name, value) in mend.State)
            Reference.Same($"{configuration}: an edit changed {name}", before[name], value, 0);
    }

    [Theory]
    [MemberData(nameof(Editors))]
    public void ATrainingStep_IsThePublishedCodes(string configuration)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, configuration));
        if (!reference.Strings("blocks").Contains("train"))
            return;
        using var stage = Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"));
        using var mend = Editor(reference, stage, "state/");
        var batch = reference.EditBatch("train/batch/", stage.Family);
        var clip = reference.Json.GetProperty("grad_clip").GetDouble();
        using var optimiser = new EditorOptimiser(mend, Lr, Lr, window: 1, clip);

        var (_, factors) = TrainingStep.Record(stage, batch.Inner);
        var updates = mend.ProposeForTraining(factors);
        CheckFactors(reference, "train", factors, updates);
        var (figures, total) = TrainingStep.Evaluate(stage, new WeightUpdates(updates), batch, Weights(reference));
        CheckFigures(reference, "train", stage, batch, figures, new WeightUpdates(updates));
        // the published trainer's first window is one longer
        Assert.Null(optimiser.Take([.. Derivatives.Of([total], [.. optimiser.Parameters])]));
        var gradients = optimiser.Collected;

        var names = mend.Parameters.Select(parameter => parameter.Name).Append("edit_lrs").ToList();
        for (var i = 0; i < names.Count; i++)
            Reference.Same($"{configuration} train/grad/{names[i]}", reference["train/grad/" + names[i]], gradients[i], Tolerance.Gradient);
        Assert.Equal(reference.Names.Count(name => name.StartsWith("train/grad/", StringComparison.Ordinal)), names.Count);
        CheckStatistics(configuration, reference, "train/stats_after/", mend);
        Reference.Same($"{configuration} grad_norm", reference.Json.GetProperty("train").GetProperty("grad_norm").GetDouble(),
            Math.Sqrt(gradients.Sum(gradient => Math.Pow(gradient.norm().Host().item<float>(), 2))),
            Tolerance.Gradient * reference.Json.GetProperty("train").GetProperty("grad_norm").GetDouble());

        if (!reference.Has("train/after_adam/edit_lrs"))
            return;
        Adam.ClipNorm(gradients, clip);
        optimiser.Adam.Step(gradients);
        foreach (var (name, value) in mend.Parameters.Append(("edit_lrs", mend.Alpha)))
            Reference.Same($"{configuration} train/after_adam/{name}", reference["train/after_adam/" + name], value, Tolerance.AfterAdam);
    }

    [Theory]
    [MemberData(nameof(Loops))]
    public void TheTrainingLoop_IsThePublishedCodes(string configuration)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, configuration));
        using var stage = Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"));
        using var mend = Editor(reference, stage, "state/");
        using var optimiser = new EditorOptimiser(mend, reference.Json.GetProperty("lr").GetDouble(),
            reference.Json.GetProperty("lr_lr").GetDouble(),
            reference.Json.GetProperty("accumulate_bs").GetInt32(), reference.Json.GetProperty("grad_clip").GetDouble());
        var iterations = reference.Json.GetProperty("iterations");
        for (var i = 0; i < iterations.GetArrayLength(); i++)
        {
            var batch = reference.EditBatch($"iter{i}/batch/", stage.Family);
            var (figures, gradients) = TrainingStep.Run(stage, mend, batch, new LossWeights(), optimiser.Parameters);
            var norm = optimiser.Take(gradients);
            var expected = iterations[i];
            Reference.Same($"{configuration} iteration {i} loss/edit", expected.GetProperty("loss/edit").GetDouble(), figures.Edit,
                10 * Tolerance.Loss);
            Reference.Same($"{configuration} iteration {i} loss/loc", expected.GetProperty("loss/loc").GetDouble(), figures.Locality,
                10 * Tolerance.Loss);
            Assert.Equal(expected.TryGetProperty("grad", out var wanted), norm is not null);
            if (norm is { } found)
                Reference.Same($"{configuration} iteration {i} grad", wanted.GetDouble(), found, Tolerance.Gradient * wanted.GetDouble());
        }
        foreach (var (name, value) in mend.Parameters.Append(("edit_lrs", mend.Alpha)))
            Reference.Same($"{configuration} final/{name}", reference["final/" + name], value, Tolerance.AfterAdam);
        CheckStatistics(configuration, reference, "final/", mend);
        var names = mend.Parameters.Select(parameter => parameter.Name).Append("edit_lrs").ToList();
        for (var i = 0; i < names.Count; i++)
            if (reference.Has("final_grad/" + names[i]))
                Reference.Same($"{configuration} final_grad/{names[i]}", reference["final_grad/" + names[i]], optimiser.Collected[i],
                    10 * Tolerance.Gradient);
    }

    [Fact]
    public void TheAuthorsCheckpoint_IsImported()
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(FixtureFolder.Path, "mend"), "*.checkpoint.pt",
            SearchOption.AllDirectories))
        {
            using var scope = NewDisposeScope();
            using var reference = new Reference(file[..^".checkpoint.pt".Length]);
            using var stage = Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"), CPU);
            using var mend = ImportReference(file, Reference.Options(reference.Json.GetProperty("mend")),
                EditorTraining.EditableWeights(stage));
            foreach (var (name, value) in mend.Parameters.Append(("edit_lrs", mend.Alpha)))
                Reference.Same($"{file} {name}", reference["train/after_adam/" + name], value, 0);
            CheckStatistics(file, reference, "train/stats_after/", mend, exactly: true);

            using var ours = ImportReference(file, Reference.Options(reference.Json.GetProperty("mend"), reference: false),
                EditorTraining.EditableWeights(stage));
            var batch = reference.EditBatch("eval1/batch/", stage.Family);
            var (_, factors) = TrainingStep.Record(stage, batch.Inner);
            var (theirs, mine) = (mend.Propose(factors), ours.Propose(factors));
            foreach (var name in theirs.Keys) // the published sign and the paper's give the same update
                Reference.Same(name, theirs[name].ToDense(), mine[name].ToDense(), 1e-6);
        }
    }

    /// <summary>
    /// The editor in a checkpoint of the authors' trainer (torch.save). Their update is added, ours subtracted, so the signs of alpha are
    /// turned, unless <paramref name="options"/>.Reference keeps them.
    /// </summary>
    private static Mend ImportReference(string path, MendOptions options, IReadOnlyList<EditableWeight> weights)
    {
        using var archive = TorchArchive.Open(path, allowInertObjects: true); // the model's configuration is among the tensors
        var state = (OrderedDictionary<object, object?>)((OrderedDictionary<object, object?>)archive.Root!)["model"]!;
        return new Mend(options, weights, name =>
        {
            var value = TensorBytes.Load((PickledTensor)state[name]!);
            return name == "edit_lrs" && !options.Reference ? -value : value;
        });
    }

    private static Mend Editor(Reference reference, Stage stage, string prefix) =>
        new(Reference.Options(reference.Json.GetProperty("mend")), EditorTraining.EditableWeights(stage),
        name => reference.There(prefix + name));

    private static LossWeights Weights(Reference reference) =>
        new(reference.Json.GetProperty("cedit").GetDouble(), reference.Json.GetProperty("cloc").GetDouble());

    private static void CheckFactors(Reference reference, string block,
        IReadOnlyDictionary<string, GradientFactors> factors, IReadOnlyDictionary<string, LowRankUpdate> updates)
    {
        Assert.Equal(reference.Strings("inner_params").Order(), factors.Keys.Order());
        foreach (var (name, found) in factors)
        {
            Reference.Same($"{reference.Path} {block}/raw/{name}/u", reference[$"{block}/raw/{name}/u"], found.u, Tolerance.Factors);
            Reference.Same($"{reference.Path} {block}/raw/{name}/delta", reference[$"{block}/raw/{name}/delta"], found.delta,
                Tolerance.Factors);
            Reference.Same($"{reference.Path} {block}/factors/{name}/x", reference[$"{block}/factors/{name}/x"], updates[name].uTilde,
                Tolerance.Factors);
            Reference.Same($"{reference.Path} {block}/factors/{name}/delta", reference[$"{block}/factors/{name}/delta"],
                updates[name].deltaTilde, Tolerance.Factors);
        }
    }

    private static void CheckFigures(Reference reference, string block, Stage stage, EditBatch batch, StepFigures figures,
        WeightUpdates edits)
    {
        var info = reference.Json.GetProperty(block).GetProperty("info");
        void Same(string name, double actual, double tolerance = Tolerance.Loss) =>
            Reference.Same($"{reference.Path} {block} {name}", info.GetProperty(name).GetDouble(), actual, tolerance);
        Same("loss/edit", figures.Edit);
        Same("loss/loc", figures.Locality);
        Same("loss/total", figures.Total);
        Same("edit/acc", figures.EditAccuracy, 1e-6);
        Same("edit/prob", figures.EditProbability);
        Same("acc/pre", figures.LocalityAccuracyBefore, 1e-6);
        Same("acc/post", figures.LocalityAccuracyAfter, 1e-6);
        Same("nll/pre", figures.LocalityNllBefore);
        Same("nll/post", figures.LocalityNllAfter);
        Assert.Equal((long)info.GetProperty("n_tokens/post").GetDouble(), figures.LocalityTokens);

        using var _ = no_grad();
        foreach (var (part, (input, _)) in new[] { ("outer", batch.Outer), ("loc", batch.Locality) })
        {
            var top = stage.Forward(Activations.None, new ForwardContext(input, edits));
            var tokens = Losses.LocalityRows(input, stage.Family);
            var expected = reference[$"{block}/post/{part}_logits"];
            Reference.Same($"{reference.Path} {block}/post/{part}_logits", Reference.Rows(expected).index_select(0, tokens),
                Reference.Comparable(stage.Logits(top, tokens), expected), Tolerance.Logits, relative: false);
        }
    }

    private static void CheckStatistics(string what, Reference reference, string prefix, Mend mend, bool exactly = false)
    {
        var state = mend.State.ToDictionary(entry => entry.Name, entry => entry.Value);
        foreach (var name in reference.Names.Where(name => name.StartsWith(prefix + "mend.", StringComparison.Ordinal)))
            if (state.TryGetValue(name[prefix.Length..], out var value) && !name.Contains("layers", StringComparison.Ordinal))
                Reference.Same($"{what} {name}", reference[name], value.to_type(ScalarType.Float32), exactly ? 0 : Tolerance.Factors);
    }
}
