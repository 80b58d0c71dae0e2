using System.Globalization;

namespace MendCluster.Engine.Data;

/// <summary>
/// Other wordings of the questions of a corpus: by templates that it teaches, then by rules. None of them is a question of the corpus with
/// another answer; how often one would have been tells how far they can be trusted.
/// </summary>
public sealed class CorpusRewordings
{
    private readonly Dictionary<string, IReadOnlyList<string>> _wordings = [];
    private readonly QuestionTemplates _templates;
    private readonly int _learned, _byRule, _contradictions;
    private readonly Agreement _rules;

    /// <param name="questions">To reword.</param>
    /// <param name="more">Other wordings that are given; the templates are learned from them too.</param>
    public CorpusRewordings(IEnumerable<QaPair> questions, IEnumerable<QaPair>? more = null)
    {
        List<QaPair> asked = [.. questions.DistinctBy(pair => pair.Question)];
        List<QaPair> corpus = [.. asked.Concat(more ?? []).DistinctBy(pair => pair.Question)];
        var answers = corpus.ToDictionary(pair => pair.Question, pair => pair.Answer);
        _templates = new(corpus);
        var (known, wrong) = (0, 0);
        foreach (var (question, answer) in asked)
        {
            bool IsWrong(string wording) => answers.TryGetValue(wording, out var other) && other != answer;
            var learned = _templates.Of(question).ToList();
            var rules = Rewording.Of(question);
            known += rules.Count(answers.ContainsKey);
            wrong += rules.Count(IsWrong);
            rules = [.. rules.Except(learned)];
            _contradictions += learned.Concat(rules).Count(IsWrong);
            learned.RemoveAll(IsWrong);
            _wordings[question] = [.. learned, .. rules.Where(wording => !IsWrong(wording))];
            _learned += learned.Count;
            _byRule += _wordings[question].Count - learned.Count;
        }
        _rules = new(known, wrong);
    }

    /// <summary>Different wordings, none of them the question itself; perhaps none.</summary>
    /// <param name="question">One of those to reword.</param>
    public IReadOnlyList<string> Of(string question) => _wordings[question];

    /// <summary>How many there are, where they come from, and how many of those that can be looked up are wrong.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"rewordings of {_wordings.Count:N0} questions: ")
        + (_templates.Count == 0 ? "no template could be learned from them"
            : string.Create(CultureInfo.InvariantCulture, $"{_learned:N0} by {_templates.Count:N0} pairs of templates learned from them (")
                + Checked(_templates.HeldOut, "held out", "there was nothing to hold out") + ")")
        + string.Create(CultureInfo.InvariantCulture, $"; {_byRule:N0} by rules (")
        + Checked(_rules, "that are questions of the data too", "none is a question of the data, so none could be checked") + ")"
        + (_contradictions == 0 ? "" : string.Create(CultureInfo.InvariantCulture,
            $"; {_contradictions:N0} left out, to which the data has another answer"));

    private static string Checked(Agreement agreement, string which, string none) => agreement.Asked == 0 ? none
        : string.Create(CultureInfo.InvariantCulture, $"of {agreement.Asked:N0} {which}, {agreement.Wrong:N0} wrong");
}
