using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Questions that a consolidation learns to answer as the model without its edits does, beside what it learns of them (replay, as in
/// continual learning). What it costs is measured on other questions: the <see cref="ProbeSet"/>. Where they ask the same in several
/// wordings, they also teach how an edit's prompt is asked otherwise (<see cref="QuestionTemplates"/>).
/// </summary>
public sealed class ReplaySet
{
    /// <summary>What the file is called in a model's directory. Its lines are those of <see cref="ProbeSet.FileName"/>.</summary>
    public const string FileName = "replay.tsv";

    /// <summary>None: consolidations learn their edits alone.</summary>
    public static readonly ReplaySet None = new();

    /// <summary>Other wordings of a prompt, at most: by templates, and by rules.</summary>
    private const int MaxLearned = 4, MaxByRule = 2;

    private readonly IReadOnlyList<(string Question, TokenRow Row)> _rows;
    private readonly Lazy<QuestionTemplates> _templates;

    /// <param name="probes">What is measured with, of which nothing may be learned.</param>
    /// <exception cref="MendException">A question is a probe too, or has no tokens or too many for the model.</exception>
    public ReplaySet(IReadOnlyList<Probe> questions, IReadOnlyList<Probe> probes, ModelText text)
    {
        var measured = probes.Select(probe => probe.Question).ToHashSet(StringComparer.OrdinalIgnoreCase);
        if (questions.FirstOrDefault(asked => measured.Contains(asked.Question)) is { } both)
            throw new MendException(MendError.InvalidOption, $"The question \"{both.Question}\" is replayed, and a probe too.",
                $"Leave it out of the one ({FileName}) or the other ({ProbeSet.FileName}): what was learned measures nothing.");
        _rows = [.. questions.Select(asked => (asked.Question, asked.Row("question to replay", text)))];
        _templates = new(() => new(questions.Select(asked => new QaPair(asked.Question, asked.Answer))));
    }

    private ReplaySet() => (_rows, _templates) = ([], new(() => new([])));

    /// <summary>Other wordings of a prompt, each once; none is the prompt.</summary>
    internal IEnumerable<string> Rewordings(string prompt) => _templates.Value.Of(prompt).Take(MaxLearned)
        .Union(Rewording.Of(prompt).Take(MaxByRule));

    /// <param name="edited">Prompts of edits and their rewordings. A question that asks the same is to change.</param>
    internal IReadOnlyList<TokenRow> Without(IEnumerable<string> edited)
    {
        var asked = edited.ToHashSet(StringComparer.OrdinalIgnoreCase);
        return [.. _rows.Where(row => !asked.Contains(row.Question)).Select(row => row.Row)];
    }

    /// <summary>The questions in a model's directory; none where it has no such file.</summary>
    /// <exception cref="InvalidDataException">A line of another form, by its number.</exception>
    public static IReadOnlyList<Probe> Beside(string model) => ProbeSet.Beside(model, FileName);
}
