using MendCluster.Engine.Data;
using MendCluster.Engine.Torch;

namespace MendCluster.Experiments;

/// <summary>How a measurement was made. Two with equal protocols measure the same thing.</summary>
/// <param name="Task">Decides which drawdown the tables show: perplexity for generation, otherwise exact match.</param>
/// <param name="Edits">Made at once.</param>
/// <param name="Decoding">How an answer is judged.</param>
/// <param name="Locality">Which unrelated rows are asked, and against what.</param>
/// <param name="Truncation">How long a text may be.</param>
/// <param name="DType">Of the model's weights.</param>
/// <param name="Seed">Of all draws: of the data, of FT+KL's unrelated rows.</param>
/// <param name="Cases">How many were measured.</param>
/// <param name="Data">Digest of the cases' tokens.</param>
/// <param name="Model">Digest of config.json and the weights.</param>
/// <param name="Editor">Digest of the editor's file, or of the settings of one that is not trained.</param>
public sealed record Protocol(EditTaskKind Task, int Edits, string Decoding, string Locality, string Truncation, string DType, ulong Seed,
    int Cases, string Data, string Model, string Editor);

/// <summary>An editor, measured with so many edits made at once.</summary>
/// <param name="Editor">As in the paper's tables, with the settings that differ from the paper's.</param>
/// <param name="Edits">Made at once.</param>
/// <param name="Summary">Over all cases of all batches.</param>
/// <param name="PerBatch">Mean time of making a batch's edits, without measuring them.</param>
/// <param name="PeakBytes">
/// Most bytes of CPU tensors that making a batch's edits adds to the model; null: not measured, since this system has no
/// <see cref="AllocationMeter"/>.
/// </param>
/// <param name="NotMade">Batches that the editor could not compute, since its numbers overflowed: measured on the unedited model.</param>
public sealed record EditorReport(string Editor, int Edits, int Batches, EvaluationSummary Summary, TimeSpan PerBatch, long? PeakBytes,
    Protocol Protocol, IReadOnlyList<CaseResult> Cases, int NotMade = 0)
{
    /// <summary>What a table has to say of batches that were not made.</summary>
    /// <returns>Empty: all were.</returns>
    public static IReadOnlyList<string> NotesOn(IEnumerable<(string Editor, int Edits, int NotMade)> reports) =>
        [.. reports.Where(report => report.NotMade > 0).Select(report =>
            $"{report.Editor}, {report.Edits} at once: {report.NotMade} batches could not be computed, since the editor's numbers overflowed; they count as not edited.")];
}
