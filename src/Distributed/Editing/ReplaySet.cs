using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Questions that a consolidation learns to answer as the model without its edits does, beside what it learns of them (replay, as in
/// continual learning). What it costs is measured on other questions: the <see cref="ProbeSet"/>.
/// </summary>
public sealed class ReplaySet
{
    /// <summary>What the file is called in a model's directory. Its lines are those of <see cref="ProbeSet.FileName"/>.</summary>
    public const string FileName = "replay.tsv";

    /// <summary>None: consolidations learn their edits alone.</summary>
    public static readonly ReplaySet None = new();

    private readonly IReadOnlyList<(string Question, TokenRow Row)> _rows;

    /// <param name="probes">What is measured with, of which nothing may be learned.</param>
    /// <exception cref="MendException">A question is a probe too, or has no tokens or too many for the model.</exception>
    public ReplaySet(IReadOnlyList<Probe> questions, IReadOnlyList<Probe> probes, ModelText text)
    {
        var measured = probes.Select(probe => probe.Question).ToHashSet(StringComparer.OrdinalIgnoreCase);
        if (questions.FirstOrDefault(asked => measured.Contains(asked.Question)) is { } both)
            throw new MendException(MendError.InvalidOption, $"The question \"{both.Question}\" is replayed, and a probe too.",
                $"Leave it out of the one ({FileName}) or the other ({ProbeSet.FileName}): what was learned measures nothing.");
        _rows = [.. questions.Select(asked => (asked.Question, asked.Row("question to replay", text)))];
    }

    private ReplaySet() => _rows = [];

    /// <param name="edited">Prompts of edits and their rewordings. A question that asks the same is to change.</param>
    internal IReadOnlyList<TokenRow> Without(IEnumerable<string> edited)
    {
        var asked = edited.ToHashSet(StringComparer.OrdinalIgnoreCase);
        return [.. _rows.Where(row => !asked.Contains(row.Question)).Select(row => row.Row)];
    }

    /// <summary>The questions in a model's directory; none where it has no such file.</summary>
    /// <exception cref="InvalidDataException">A line of another form, by its number.</exception>
    public static IReadOnlyList<Probe> Beside(string model) => Path.Combine(model, FileName) is var file && File.Exists(file)
        ? ProbeSet.Read(file) : [];
}
