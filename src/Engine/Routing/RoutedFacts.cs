using MendCluster.Engine.Data;

namespace MendCluster.Engine.Routing;

/// <summary>A fact and what is asked near it, as places among the questions.</summary>
/// <param name="Wordings">That ask for it; at least one.</param>
/// <param name="Others">Questions that stand beside it in the data and ask for something else.</param>
public sealed record RoutedFact(IReadOnlyList<int> Wordings, IReadOnlyList<int> Others);

/// <summary>Which of many questions ask for the same: edits that share a wording are of one fact.</summary>
/// <param name="Questions">Each once, by its text in any case.</param>
/// <param name="InManyWordings">Facts that are asked in at least two.</param>
/// <param name="IsWhole">Whether all wordings of a fact are known to be its. Otherwise facts of one answer may be one.</param>
public sealed record RoutedFacts(IReadOnlyList<QaPair> Questions, IReadOnlyList<RoutedFact> InManyWordings, bool IsWhole = true)
{
    /// <summary>Facts that may be one have the same.</summary>
    internal string Name(RoutedFact fact) => IsWhole ? $"{fact.Wordings[0]}" : Questions[fact.Wordings[0]].Answer;

    public static RoutedFacts Of(IEnumerable<EditExample> edits)
    {
        var places = new Dictionary<string, int>(StringComparer.OrdinalIgnoreCase);
        var questions = new List<QaPair>();
        var factOf = new Dictionary<int, Fact>(); // by the place of each wording
        foreach (var edit in edits)
        {
            var wordings = edit.Wordings.Select(wording => Place(wording, edit.Target)).ToList();
            var fact = wordings.Select(factOf.GetValueOrDefault).OfType<Fact>().FirstOrDefault() ?? new([], []);
            foreach (var place in wordings)
            {
                if (factOf.TryGetValue(place, out var other) && other != fact) // the edit joins two
                {
                    fact.Others.UnionWith(other.Others);
                    foreach (var joined in other.Wordings)
                        factOf[joined] = fact;
                    fact.Wordings.UnionWith(other.Wordings);
                }
                fact.Wordings.Add(place);
                factOf[place] = fact;
            }
            fact.Others.UnionWith(edit.Locality.Select(pair => Place(pair.Question, pair.Answer)));
        }
        return new(questions, [.. factOf.Values.Distinct().Where(fact => fact.Wordings.Count > 1)
            .Select(fact => new RoutedFact([.. fact.Wordings], [.. fact.Others.Except(fact.Wordings)]))]);

        int Place(string question, string answer)
        {
            question = TextBatch.WithoutEnds(question);
            if (!places.TryGetValue(question, out var place))
            {
                places[question] = place = questions.Count;
                questions.Add(new(question, answer));
            }
            return place;
        }
    }

    /// <summary>
    /// Of a list of questions: those with one answer whose wordings its templates turn into each other (<see cref="QuestionTemplates"/>). Where
    /// nothing is asked in two wordings, each question and what rules make of it.
    /// </summary>
    public static RoutedFacts OfCorpus(IReadOnlyList<QaPair> corpus)
    {
        var (templates, answers) = (new QuestionTemplates(corpus), new Dictionary<string, string>());
        foreach (var (question, answer) in corpus)
            answers.TryAdd(question, answer);
        var linked = Of(corpus.Select(pair => new EditExample(pair.Question, pair.Answer,
            [.. templates.Of(pair.Question).Where(other => answers.GetValueOrDefault(other) == pair.Answer)], [])));
        return linked.InManyWordings.Count > 0 ? linked with { IsWhole = false }
            : Of(corpus.Select(pair => new EditExample(pair.Question, pair.Answer, [.. Rewording.Of(pair.Question)], [])));
    }

    private sealed class Fact(SortedSet<int> wordings, SortedSet<int> others)
    {
        public SortedSet<int> Wordings => wordings;

        public SortedSet<int> Others => others;
    }
}
