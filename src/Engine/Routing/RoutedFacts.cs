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
        var (places, questions) = (new Dictionary<string, int>(StringComparer.OrdinalIgnoreCase), new List<QaPair>());
        List<EditExample> read = [.. edits.Select(edit => edit with
        {
            Prompt = Text(edit.Prompt, edit.Target),
            Rephrases = [.. edit.Rephrases.Select(rephrase => Text(rephrase, edit.Target))],
            Locality = [.. edit.Locality.Select(pair => pair with { Question = Text(pair.Question, pair.Answer) })],
        })];
        var wordings = new Wordings(read);
        return new(questions, [.. read.GroupBy(edit => wordings.Of(edit.Prompt)).Where(fact => fact.Key.Count > 1).Select(fact => new RoutedFact(
            Places(fact.Key), Places(fact.SelectMany(edit => edit.Locality).Select(pair => pair.Question).Except(fact.Key))))]);

        IReadOnlyList<int> Places(IEnumerable<string> asked) => [.. asked.Select(question => places[question]).Order()];

        string Text(string question, string answer) // as it was first written
        {
            question = TextBatch.WithoutEnds(question);
            if (places.TryAdd(question, questions.Count))
                questions.Add(new(question, answer));
            return questions[places[question]].Question;
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
}
