using MendCluster.Contracts;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Parity;

/// <summary>KnowledgeEditor and ENN against the published code: updates, losses, every gradient, the edited model's logits.</summary>
[Trait("Category", "Parity")]
public class BaselineParityTests
{
    public static TheoryData<string> KnowledgeEditors => Fixtures.Baselines("ke_*.json");

    public static TheoryData<string> Enns => Fixtures.Baselines("enn_*.json");

    [Theory]
    [MemberData(nameof(KnowledgeEditors))]
    public void KnowledgeEditor_IsThePublishedCodes(string run)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, run));
        using var stage = Model(reference);
        var weights = EditorTraining.EditableWeights(stage)
            .Select(weight => new KnowledgeEditorWeight(weight, stage.Weights.Loaded[weight.Name].IsTransposed)).ToList();
        using var editor = new KnowledgeEditor(
            new()
            {
                HiddenDim = reference.Json.GetProperty("hidden_dim").GetInt32(),
                ConditionDim = reference.Json.GetProperty("condition_dim").GetInt32(),
                MaxScale = reference.Json.GetProperty("max_scale").GetDouble()
            },
            weights, Named(reference, "editor/"));
        var batch = reference.EditBatch("batch/", stage.Family);

        var condition = editor.Condition(reference["batch/cond/input_ids"], reference["batch/cond/attention_mask"]);
        Reference.Same($"{run} condition_vector", reference["condition_vector"], condition, Tolerance.Factors);
        var updates = editor.Propose(TrainingStep.Record(stage, batch.Inner).Factors, condition);
        foreach (var (name, update) in updates)
            Reference.Same($"{run} update/{name}", reference["update/" + name], Stored(stage, name, update.ToDense()), Tolerance.Factors);

        var edits = new WeightUpdates(updates);
        var (figures, total) = TrainingStep.Evaluate(stage, edits, batch, Weights(reference));
        SameFigures(run, reference, figures);
        var gradients = Derivatives.Of([total], [.. editor.Parameters.Values]);
        foreach (var (name, gradient) in editor.Parameters.Keys.Zip(gradients))
            Reference.Same($"{run} grad/{name}", reference["grad/" + name], gradient, Tolerance.Gradient);
        SameLogits(run, reference, stage, edits, batch);
    }

    [Theory]
    [MemberData(nameof(Enns))]
    public void Enn_IsThePublishedCodes(string run)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, run));
        using var original = Model(reference);
        using var stage = Model(reference);
        var settings = reference.Json.GetProperty("enn");
        var order = reference.Strings("edit_lrs_order").ToList();
        var lrs = reference["edit_lrs"].index_select(0, tensor(stage.EditableOrder.Select(name => (long)order.IndexOf(name)).ToArray()))
            .On(stage.Device);
        using var enn = new Enn(new()
        {
            EditSteps = settings.GetProperty("n_edit_steps").GetInt32(),
            FirstOrder = settings.GetProperty("first_order").GetBoolean()
        },
            EditorTraining.EditableWeights(stage), lrs);
        foreach (var (name, value) in Named(reference, "perturbed/"))
            using (no_grad())
                stage.Weights.Loaded[name].Value.copy_(Stored(stage, name, value));
        foreach (var weight in stage.Weights.Loaded.Values)
            weight.Value.requires_grad_();
        var batch = reference.EditBatch("batch/", stage.Family);

        var edits = EnnTraining.Edit(stage, enn, batch.Inner);
        foreach (var (name, update) in edits.Updates)
            Reference.Same($"{run} update/{name}", reference["update/" + name], Stored(stage, name, Assert.IsType<DenseUpdate>(update).R),
                Tolerance.Factors);
        SameLogits(run, reference, stage, edits, batch);

        var names = stage.Weights.Loaded.Keys.Where(name => reference.Has("grad/" + name)).ToList();
        var (figures, drift, gradients) = EnnTraining.Step(stage, original, enn, batch, Weights(reference),
            [.. names.Select(name => stage.Weights.Loaded[name].Value), enn.EditLrs]);
        var numbers = reference.Json.GetProperty("numbers");
        Reference.Same($"{run} loss/base", numbers.GetProperty("loss/base").GetDouble(), drift, Tolerance.Loss);
        SameFigures(run, reference, figures, "loss/total_edit");
        foreach (var (name, gradient) in names.Zip(gradients))
            Reference.Same($"{run} grad/{name}", reference["grad/" + name], Stored(stage, name, gradient), Tolerance.Gradient);
        var lrGradient = gradients[^1]
            .Host().index_select(0, tensor(order.Select(name => (long)stage.EditableOrder.ToList().IndexOf(name)).ToArray()));
        Reference.Same($"{run} grad/edit_lrs", reference["grad/edit_lrs"], lrGradient, Tolerance.Gradient);
    }

    [Fact]
    public void EnnsOneStep_IsTheSameInFactoredForm()
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, "baselines", "enn_gpt2_second_order"));
        using var stage = Model(reference);
        using var enn = new Enn(new(), EditorTraining.EditableWeights(stage), device: stage.Device);
        var edit = reference.Batch("batch/edit_inner/", stage.Family);
        var dense = EnnTraining.Edit(stage, enn, edit);
        foreach (var (name, update) in enn.Propose(TrainingStep.Record(stage, edit).Factors))
            Reference.Same(name, ((DenseUpdate)dense.Updates[name]).R, update.ToDense(), Tolerance.Factors);
    }

    private static Stage Model(Reference reference) =>
        Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"));

    private static LossWeights Weights(Reference reference) =>
        new(reference.Json.GetProperty("cedit").GetDouble(), reference.Json.GetProperty("cloc").GetDouble());

    private static Dictionary<string, Tensor> Named(Reference reference, string prefix) =>
        reference.Names.Where(name => name.StartsWith(prefix, StringComparison.Ordinal))
        .ToDictionary(name => name[prefix.Length..], reference.There);

    /// <summary>From [n, m] to the checkpoint's layout, or back.</summary>
    private static Tensor Stored(Stage stage, string name, Tensor value) => stage.Weights.Loaded[name].IsTransposed ? value.t() : value;

    private static void SameFigures(string run, Reference reference, StepFigures figures, string total = "loss/total")
    {
        var numbers = reference.Json.GetProperty("numbers");
        foreach (var (name, actual) in new[] { ("loss/edit", figures.Edit), ("loss/loc", figures.Locality), (total, figures.Total),
            ("edit/acc", figures.EditAccuracy),
            ("edit/prob", figures.EditProbability), ("acc/pre", figures.LocalityAccuracyBefore),
                ("acc/post", figures.LocalityAccuracyAfter),
            ("nll/pre", figures.LocalityNllBefore), ("nll/post", figures.LocalityNllAfter), ("n_tokens/post", figures.LocalityTokens) })
            Reference.Same($"{run} {name}", numbers.GetProperty(name).GetDouble(), actual, Tolerance.Loss);
    }

    private static void SameLogits(string run, Reference reference, Stage stage, WeightUpdates edits, EditBatch batch)
    {
        using var _ = no_grad();
        foreach (var (part, input) in new[] { ("outer", batch.Outer.Input), ("loc", batch.Locality.Input) })
        {
            var top = stage.Forward(Activations.None, new ForwardContext(input, edits));
            var tokens = Losses.LocalityRows(input, stage.Family);
            var logits = reference[$"post/{part}_logits"];
            Reference.Same($"{run} post/{part}_logits", Reference.Rows(logits).index_select(0, tokens),
                Reference.Comparable(stage.Logits(top, tokens), logits), Tolerance.Logits, relative: false);
        }
    }
}
