using System.Text.Json;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tests.Parity;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

/// <summary>FT and FT+KL against the published code: every pass, the differences it ends with, and the edited model's logits.</summary>
[Trait("Category", "Parity")]
public class FineTuningParityTests
{
    public static TheoryData<string> Runs => Fixtures.Baselines("ft_*.json");

    [Theory]
    [MemberData(nameof(Runs))]
    public void FineTuning_IsThePublishedCodes(string run)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, run));
        using var stage = Reference.Model(reference.Json.GetProperty("model").GetString()!, reference.Strings("inner_params"));
        var ft = reference.Json.GetProperty("ft");
        var options = new FineTuneOptions
        {
            Opt = Enum.Parse<FineTuneOptimiser>(ft.GetProperty("opt").GetString()!, ignoreCase: true),
            EditLr = reference.Json.GetProperty("edit_lr").GetDouble(),
            MaxEditSteps = ft.GetProperty("max_edit_steps").GetInt32(),
            GradClip = reference.Json.GetProperty("grad_clip").GetDouble(),
            CEdit = ft.GetProperty("locality").GetProperty("cedit").GetDouble(),
        };
        Func<int, ModelInput>? locality = ft.GetProperty("locality").GetProperty("enabled").GetBoolean()
            ? step => reference.Batch($"locality_batch{step}/", stage.Family).Input
            : null;

        var (edits, steps) = FineTuning.Edit(stage, options, reference.Batch("batch/edit_inner/", stage.Family), locality);

        var expected = reference.Json.GetProperty("numbers").GetProperty("per_forward").EnumerateArray().ToList();
        Assert.Equal(expected.Count, steps.Count);
        foreach (var (wanted, step) in expected.Zip(steps))
        {
            Reference.Same($"{run} loss", wanted.GetProperty("loss").GetDouble(), step.Loss, Tolerance.Loss);
            Reference.Same($"{run} l_edit", wanted.GetProperty("l_edit").GetDouble(), step.Edit, Tolerance.Loss);
            Reference.Same($"{run} acc", wanted.GetProperty("acc").GetDouble(), step.EditAccuracy, 1e-6);
            if (wanted.GetProperty("l_loc").ValueKind == JsonValueKind.Null)
                Assert.Null(step.Locality);
            else
                Reference.Same($"{run} l_loc", wanted.GetProperty("l_loc").GetDouble(), step.Locality!.Value, Tolerance.Loss);
        }

        foreach (var (name, update) in edits.Updates)
        {
            var R = Assert.IsType<DenseUpdate>(update).R;
            Reference.Same($"{run} residual/{name}", reference["residual/" + name],
                stage.Weights.Loaded[name].IsTransposed ? R.t() : R,
                options.Opt == FineTuneOptimiser.RmsProp ? Tolerance.AfterRmsProp : Tolerance.AfterAdam);
        }

        using var _ = no_grad();
        foreach (var (part, batch) in new[] { ("inner", "edit_inner"), ("loc", "loc") })
        {
            var (input, _) = reference.Batch($"batch/{batch}/", stage.Family);
            var top = stage.Forward(Activations.None, new ForwardContext(input, edits));
            var tokens = Losses.LocalityRows(input, stage.Family);
            var logits = reference[$"post/{part}_logits"];
            Reference.Same($"{run} post/{part}_logits", Reference.Rows(logits).index_select(0, tokens),
                Reference.Comparable(stage.Logits(top, tokens), logits), Tolerance.Logits, relative: false);
        }
    }
}
