namespace MendCluster.Engine.Editors;

/// <summary>Turns the gradient of an edit's loss into a better update. Knows no model, no request and no clock.</summary>
public interface IEditor
{
    /// <summary>The update for each weight that has factors. Changes nothing; computed without grad.</summary>
    /// <param name="factors">By weight name; those of one pipeline stage, or of the whole model.</param>
    IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors);
}

/// <summary>A weight that an editor changes.</summary>
/// <param name="Name">As in the checkpoint.</param>
/// <param name="InFeatures">m.</param>
/// <param name="OutFeatures">n.</param>
public sealed record EditableWeight(string Name, long InFeatures, long OutFeatures);

/// <summary>An editor cannot be built from, or used with, what it was given.</summary>
public sealed class EditorException(string message) : Exception(message);
