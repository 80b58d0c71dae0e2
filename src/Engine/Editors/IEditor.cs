using MendCluster.Contracts;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>Turns the gradient of an edit's loss into a better update. Knows no model, no request and no clock.</summary>
public interface IEditor
{
    /// <summary>The update for each weight that has factors. Changes nothing; computed without grad.</summary>
    /// <param name="factors">By weight name; those of one pipeline stage, or of the whole model.</param>
    IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors);

    /// <summary>The same of several edits, each by itself.</summary>
    /// <param name="edits">Of the same weights.</param>
    IReadOnlyList<IReadOnlyDictionary<string, LowRankUpdate>> ProposeEach(
        IReadOnlyList<IReadOnlyDictionary<string, GradientFactors>> edits) => [.. edits.Select(Propose)];
}

/// <summary>What a file keeps of an editor.</summary>
public interface IStoredEditor : IDisposable
{
    EditorAlgorithm Algorithm { get; }

    /// <summary>The algorithm's own settings.</summary>
    object Options { get; }

    /// <summary>Those that an edit changes, in configuration order.</summary>
    IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>All that makes this editor, for a checkpoint.</summary>
    IEnumerable<(string Name, Tensor Value)> State { get; }
}

/// <summary>An editor that is made from a model and its edits before it is used, and then needs gradients alone.</summary>
public interface IPreparedEditor : IEditor, IStoredEditor
{
    /// <summary>phi: what training learns, without the step sizes.</summary>
    IEnumerable<(string Name, Tensor Value)> Parameters { get; }

    /// <summary>What training learns with a learning rate of its own.</summary>
    IEnumerable<(string Name, Tensor Value)> StepSizes { get; }
}

/// <summary>
/// An editor that goes over its edits in rounds: each is recorded on the model as the rounds before it edited it, and its update is added
/// to theirs (Iterative editing, arXiv 2503.11895).
/// </summary>
public interface IIteratedEditor : IPreparedEditor
{
    /// <summary>At least 1.</summary>
    int Rounds { get; }

    /// <summary>The update of a later round alone.</summary>
    /// <param name="factors">Of the model as edited so far.</param>
    /// <param name="typical">tau by weight, the <see cref="GradientFactors.TypicalGradient"/> of the first round.</param>
    IReadOnlyDictionary<string, LowRankUpdate> ProposeAgain(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double> typical);
}

/// <summary>
/// An editor whose edits, made one after another, go round the keys of those before them that are in force: least squares made recursive.
/// </summary>
public interface ISequentialEditor : IIteratedEditor
{
    /// <summary>Whether it does; if not, an edit knows nothing of those before it.</summary>
    bool IsSequential { get; }

    /// <summary>Of a weight, before the first edit. The caller's.</summary>
    EarlierKeys NoEarlier(string weight);

    /// <summary>The update of a round.</summary>
    /// <param name="factors">Of the model as edited so far.</param>
    /// <param name="typical">As of <see cref="IIteratedEditor.ProposeAgain"/>; null: it is the first round.</param>
    /// <param name="earlier">Of each weight.</param>
    IReadOnlyDictionary<string, LowRankUpdate> ProposeAfter(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double>? typical, IReadOnlyDictionary<string, EarlierKeys> earlier);
}

/// <summary>A weight that an editor changes.</summary>
/// <param name="Name">As in the checkpoint.</param>
/// <param name="InFeatures">m.</param>
/// <param name="OutFeatures">n.</param>
public sealed record EditableWeight(string Name, long InFeatures, long OutFeatures);
