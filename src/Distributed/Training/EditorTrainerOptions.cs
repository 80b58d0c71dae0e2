using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MendCluster.Distributed.Training;

/// <summary>What a run over replicas is made from.</summary>
public sealed record EditorTrainerOptions
{
    /// <summary>
    /// As on one machine. A step's gradient is that of <see cref="EditorTrainingOptions.AccumulateBs"/> edits, whatever the layout.
    /// </summary>
    public required EditorTrainingOptions Training { get; init; }

    /// <summary>The weights that the editor changes, in configuration order.</summary>
    public required IReadOnlyList<EditableWeight> Weights { get; init; }

    /// <summary>The edit of an iteration.</summary>
    public required Func<long, EditBatch> TrainingBatch { get; init; }

    /// <summary>The i-th edit of every validation.</summary>
    public required Func<int, EditBatch> ValidationBatch { get; init; }

    /// <summary>Where configuration, metrics, checkpoint and the best editor go.</summary>
    public required RunFolder Run { get; init; }

    /// <summary>Gradients travel rounded to 16 bits: half the bytes, and a noise below that of the edits.</summary>
    public bool BFloat16OnWire { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Where lost replicas and the end of the run are told.</summary>
    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>A run on data for question answering.</summary>
    /// <param name="model">A Hugging Face directory.</param>
    /// <exception cref="MendException">The run is not one that replicas share.</exception>
    public static EditorTrainerOptions Of(string model, EditorData data, string run) => new()
    {
        Training = data.Options.Algorithm != EditorAlgorithm.Mend
            ? throw new MendException(MendError.InvalidOption,
            $"{data.Options.Algorithm} is trained on one machine: only the steps of MEND are divided.",
                "Leave replicas and stages at 1, or train MEND.")
            : data.Options.Edits > 1
            ? throw new MendException(MendError.InvalidOption, $"{data.Options.Edits} edits an iteration are trained on one machine.",
                "Leave replicas and stages at 1, or edits.")
            : data.Options.Mend.Reference
            ? throw new MendException(MendError.InvalidOption, "The quirks of the published code (reference) were asked for.",
                "They are of training on one machine, edit by edit.")
            : data.Options,
        Weights = EditorTraining.EditableWeights(ModelFamily.FromDirectory(model), data.Options.Editable),
        TrainingBatch = data.Training,
        ValidationBatch = data.Validation,
        Run = new(run, new(Convert.ToHexStringLower(ModelFingerprint.Of(model)), data.Digest)),
    };
}
