using System.Text.RegularExpressions;

namespace MendCluster.Engine.Data;

/// <summary>Questions that should have one answer: how many have another.</summary>
/// <param name="Asked">Of which the answer is known.</param>
public sealed record Agreement(int Asked, int Wrong);

/// <summary>
/// Pairs of templates that ask the same of a subject, learned from questions and answers: "Who wrote …?" and "… was written by whom?".
/// A template is a question without its subject, which is the longest run of words that two questions of one answer share and that begins
/// and ends with a word in capitals or digits. A pair is kept when it is seen on <see cref="MinSubjects"/> subjects with one answer each,
/// on at most <see cref="MaxWrong"/> of its subjects with two, and when both templates name the same: "What is North …?" and
/// "What is South …?" are often answered alike and ask of different things. Reads each question a fixed number of times, and gives the
/// same for the same corpus in any process.
/// </summary>
public sealed partial class QuestionTemplates
{
    private const int MinSubjects = 3;
    private const double MaxWrong = 0.05;

    /// <summary>Of words.</summary>
    private const int MaxSubject = 8;

    /// <summary>A longer text has no template.</summary>
    private const int MaxWords = 40;

    /// <summary>Of questions with one answer: a run of words that more of them share is no subject.</summary>
    private const int MaxAlike = 8;

    /// <summary>Of the questions: a word that fewer of them begin with may be a name.</summary>
    private const double MinOpening = 0.01;

    private readonly Dictionary<Template, List<Template>> _others = [];

    /// <param name="corpus">Of a question that is in it twice the first answer counts.</param>
    public QuestionTemplates(IEnumerable<QaPair> corpus)
    {
        QaPair[] asked = [.. corpus.DistinctBy(pair => pair.Question)];
        var trials = Trials(asked, Candidates(asked));
        var heldOut = new HashSet<Trial>();
        foreach (var pair in trials)
        {
            var parts = pair.ToLookup(trial => IsHeldOut(trial.Subject));
            if (IsKept(parts[false]))
                heldOut.UnionWith(parts[true].Select(trial => trial with { Subject = "" })); // a question counts once, whatever its templates
            if (!IsKept(pair))
                continue;
            Count++;
            Add(pair.Key.First, pair.Key.Second);
            Add(pair.Key.Second, pair.Key.First);
        }
        HeldOut = new(heldOut.Count, heldOut.Count(trial => !trial.Agrees));
    }

    /// <summary>Of pairs.</summary>
    public int Count { get; }

    /// <summary>What four fifths of the subjects teach, on the questions about the last fifth.</summary>
    public Agreement HeldOut { get; }

    /// <summary>The question by all templates that one of its own has a pair with.</summary>
    public IEnumerable<string> Of(string question) => Cut(question)
        .SelectMany(cut => _others.GetValueOrDefault(cut.Template, []).Select(other => other.Before + cut.Subject + other.After))
        .Where(wording => wording != question).Distinct();

    private void Add(Template template, Template other)
    {
        if (!_others.TryGetValue(template, out var others))
            _others[template] = others = [];
        others.Add(other);
    }

    /// <summary>Pairs that are seen on enough subjects.</summary>
    private static List<(Template First, Template Second)> Candidates(QaPair[] corpus)
    {
        var openings = corpus.CountBy(pair => Words().Match(pair.Question).Value)
            .Where(word => word.Value >= MinOpening * corpus.Length).Select(word => word.Key).ToHashSet();
        var seen = new Dictionary<(Template, Template), HashSet<string>>();
        foreach (var alike in corpus.GroupBy(pair => pair.Answer))
        {
            QaPair[] questions = [.. alike];
            var shared = new Dictionary<string, List<(int Question, Template Template)>>(); // by the run of words
            for (var i = 0; questions.Length > 1 && i < questions.Length; i++)
                foreach (var (template, subject) in Cut(questions[i].Question).DistinctBy(cut => cut.Subject))
                    (shared.TryGetValue(subject, out var those) ? those : shared[subject] = []).Add((i, template));
            var longest = new HashSet<(int, int)>();
            foreach (var (subject, those) in shared.Where(run => run.Value.Count <= MaxAlike)
                .OrderByDescending(run => run.Key.Length).ThenBy(run => run.Key, StringComparer.Ordinal))
                foreach (var (i, first) in those)
                    foreach (var (j, second) in those.Where(other => other.Question > i))
                        if (longest.Add((i, j)) && Names(first).SequenceEqual(Names(second)))
                        {
                            var key = first.CompareTo(second) < 0 ? (first, second) : (second, first);
                            (seen.TryGetValue(key, out var subjects) ? subjects : seen[key] = []).Add(subject);
                        }
        }
        return [.. seen.Where(pair => pair.Value.Count >= MinSubjects).OrderByDescending(pair => pair.Value.Count)
            .ThenBy(pair => pair.Key).Select(pair => pair.Key)];

        IEnumerable<string> Names(Template template) => Words().Matches(template.Before).Select(word => word.Value)
            .Skip(Words().Match(template.Before) is { Success: true, Value: var word } && openings.Contains(word) ? 1 : 0)
            .Concat(Words().Matches(template.After).Select(word => word.Value)).Where(IsName).Order(StringComparer.Ordinal);
    }

    /// <summary>Each candidate's subjects of which both questions are there.</summary>
    private static IEnumerable<IGrouping<(Template First, Template Second), Trial>> Trials(QaPair[] corpus,
        List<(Template First, Template Second)> candidates)
    {
        var subjects = candidates.SelectMany(pair => new[] { pair.First, pair.Second }).Distinct()
            .ToDictionary(template => template, _ => new Dictionary<string, QaPair>());
        foreach (var asked in corpus)
            foreach (var (template, subject) in Cut(asked.Question))
                subjects.GetValueOrDefault(template)?.TryAdd(subject, asked);
        return candidates.SelectMany(pair => subjects[pair.First].Where(asked => subjects[pair.Second].ContainsKey(asked.Key))
            .Select(asked => (Pair: pair, First: asked.Value, Second: subjects[pair.Second][asked.Key], Subject: asked.Key)))
            .GroupBy(trial => trial.Pair, trial => new Trial(trial.Subject, trial.First.Question, trial.Second.Question,
                trial.First.Answer == trial.Second.Answer));
    }

    private static bool IsKept(IEnumerable<Trial> trials) => trials.Count(trial => trial.Agrees) >= MinSubjects
        && trials.Count(trial => !trial.Agrees) <= MaxWrong * trials.Count();

    /// <summary>One subject in five, the same in every process.</summary>
    private static bool IsHeldOut(string subject) =>
        subject.Aggregate(0UL, (state, letter) => new Prng(state + letter).Next()) % 5 == 0;

    /// <summary>All ways to take a subject out of a question.</summary>
    private static IEnumerable<(Template Template, string Subject)> Cut(string question)
    {
        Match[] words = [.. Words().Matches(question).Take(MaxWords + 1)];
        if (words.Length > MaxWords)
            yield break;
        foreach (var (first, from) in words.Index().Where(word => IsName(word.Item.Value)))
            foreach (var to in words.Skip(first).Take(Math.Min(MaxSubject, words.Length - 1)).Where(word => IsName(word.Value)))
            {
                var end = to.Index + to.Length;
                yield return (new(question[..from.Index], question[end..]), question[from.Index..end]);
            }
    }

    private static bool IsName(string word) => word.Any(letter => char.IsUpper(letter) || char.IsDigit(letter));

    /// <summary>With a full stop, unless it ends the question, and with the brackets of "Micronesia (Federated States)".</summary>
    [GeneratedRegex(@"[\p{L}\p{N}(](?:[\p{L}\p{M}\p{N})-]|\.(?!\s*$))*")]
    private static partial Regex Words();

    /// <summary>What stands before the subject, and after it.</summary>
    private readonly record struct Template(string Before, string After) : IComparable<Template>
    {
        public int CompareTo(Template other) => string.CompareOrdinal(Before, other.Before) is not 0 and var order ? order
            : string.CompareOrdinal(After, other.After);
    }

    private sealed record Trial(string Subject, string First, string Second, bool Agrees);
}
