using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Distributed.Deployment;

/// <summary>What a training run takes, from the model's configuration and the settings: before a weight is read.</summary>
/// <param name="Parameters">That are trained.</param>
/// <param name="WeightBytes">Of the model, in float32.</param>
/// <param name="EditorBytes">Of what is trained, with the gradient of a step, that of the steps before it, and Adam's two moments.</param>
/// <param name="ActivationBytes">
/// An upper estimate, for a step on rows of <paramref name="Tokens"/>; null: none is known for the algorithm.
/// </param>
/// <param name="Operations">Of an iteration on such rows; null likewise.</param>
/// <param name="Tokens">The most that a layer reads of a question with its answer, 32 of each.</param>
/// <param name="DiskBytes">Checkpoint and best editor, each beside the one that it replaces.</param>
public sealed record TrainingPlan(
    long Parameters, long WeightBytes, long EditorBytes, long? ActivationBytes, double? Operations, int Tokens, long DiskBytes)
{
    /// <summary>Without activations, of which there is an estimate alone.</summary>
    public long HeldBytes => WeightBytes + EditorBytes;

    /// <summary>A plan for a model's directory.</summary>
    /// <param name="replicas">Copies of the model with its editor on this machine.</param>
    /// <exception cref="MendException">A selector of weights that the model does not have.</exception>
    public static TrainingPlan Read(string model, EditorTrainingOptions options, int replicas = 1) =>
        Of(ModelFamily.FromDirectory(model), options, replicas);

    /// <summary>A plan for a family's configuration.</summary>
    public static TrainingPlan Of(ModelFamily family, EditorTrainingOptions options, int replicas = 1)
    {
        using var shapes = Stage.LoadWhole(family, new WeightShapes(), EditableWeights.Select(family, options.Editable));
        var parameters = EditorRegistry.Of(options.Algorithm).Parameters!(shapes, options);
        var (averages, bytes) = (options.Averaging > 0 ? 1 : 0, sizeof(float) * parameters);
        MendOptions? network = options.Algorithm switch
        {
            EditorAlgorithm.Mend => options.Mend,
            EditorAlgorithm.Malmen => options.Malmen.Network(),
            _ => null,
        };
        var tokens = family.IsEncoderDecoder ? 32 : 64;
        PlannedStage Passing(int edits) => StagePlan.Of(family, new()
        {
            Mend = network ?? new() { Rank = 1 },
            Editable = options.Editable,
            Tokens = tokens * edits * (2 + options.UnrelatedRows), // the edit, its rephrase, and what is unrelated to it
            LabelledTokens = tokens * edits * (2 + options.UnrelatedRows),
            Probes = 0,
        }).Stages[0];
        var isMalmen = options.Algorithm == EditorAlgorithm.Malmen; // a portion of the edits, and of their rows, has a graph at once
        var step = Passing(isMalmen ? Math.Min(options.Malmen.ModelBatch, options.Edits) : options.Edits);
        long Rows(long count) => sizeof(float) * count * EditorTraining.EditableWeights(shapes)
            .Sum(weight => weight.InFeatures + weight.OutFeatures);
        var all = (long)tokens * options.Edits;
        return new(parameters * replicas, step.WeightBytes * replicas, (5 + averages) * bytes * replicas,
            network is null ? null : replicas * (step.ActivationBytes + StagePlan.KeptInGraph * (2 * Rows(all)
                + (1 + network.NHidden) * Rows(isMalmen ? Math.Min(options.Malmen.EditorBatch, all) : all))),
            network is null ? null : Passing(options.Edits).Operations, tokens, (2 * (3 + averages) + 1) * bytes);
    }

    /// <summary>Refuses a run that cannot end well, before its first step.</summary>
    /// <param name="memory">Bytes of the machine; null: not known.</param>
    /// <param name="disk">Bytes that the run's folder has, with those of a run that it has already; null: not known.</param>
    /// <exception cref="MendException">The memory or the disk does not suffice, whatever the texts.</exception>
    public void RequireFit(long? memory, long? disk)
    {
        if (HeldBytes > memory)
            throw new MendException(MendError.OutOfMemory,
                $"The training needs {Size(HeldBytes)} of memory, {Size(WeightBytes)} for the model and {Size(EditorBytes)} for the editor with its gradients and Adam's moments, activations aside; there are {Size(memory.Value)}.",
                "Lower --rank, name fewer weights with --editable, use fewer --replicas, or train with --cluster on several machines.");
        if (DiskBytes > disk)
            throw new MendException(MendError.FileUnusable,
                $"The training's checkpoints need up to {Size(DiskBytes)} of disk; there are {Size(disk.Value)}.",
                "Make room, or name a folder on another disk with --out; a lower --rank makes the editor smaller.");
    }

    /// <summary>In words: "1.5 GB".</summary>
    public static string Size(long bytes) => bytes >= 1_000_000_000 ? FormattableString.Invariant($"{bytes / 1e9:0.0} GB")
        : FormattableString.Invariant($"{bytes / 1e6:0.0} MB");
}
