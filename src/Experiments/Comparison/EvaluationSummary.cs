namespace MendCluster.Experiments;

/// <summary>
/// The figures of an evaluation (mend-spec 3.5), each with a 95% interval over the edited models and the cases. Within a case questions count alike, and
/// between cases cases do. A figure is null when no case has a question for it.
/// </summary>
/// <param name="EditSuccess">Exact match of the target on the edit's own prompt, edited model.</param>
/// <param name="RephraseSuccess">The same on the rephrases: what the authors' code calls ES, and their tables show.</param>
/// <param name="UnionSuccess">The same on the edit's own prompt and its rephrases together: the paper's Eq. 1.</param>
/// <param name="FreeRunningSuccess">
/// Greedy generation writes the target to the first rephrase, <see cref="CaseResult.FreeRunning"/>.
/// </param>
/// <param name="RephraseTokenAccuracy">Fraction of the target's tokens on the rephrases, for comparison with later papers.</param>
/// <param name="UneditedSuccess">UnionSuccess of the unedited model: what the edits did not have to change.</param>
/// <param name="LocalityAccuracy">Exact match of the true answers on the locality questions, unedited model: what there is to lose.</param>
/// <param name="Drawdown">LocalityAccuracy less the same of the edited model.</param>
/// <param name="PerplexityDrawdown">
/// Perplexity of all locality answers together, edited model less unedited; weighted by tokens.
/// </param>
/// <param name="Retained">Share of the locality questions whose most likely answer the edit left as it was, right or wrong.</param>
/// <param name="LocalityKl">KL of the unedited to the edited model, per token of the locality questions.</param>
public sealed record EvaluationSummary(
    Estimate EditSuccess, Estimate? RephraseSuccess, Estimate UnionSuccess, Estimate? FreeRunningSuccess, Estimate? RephraseTokenAccuracy,
    Estimate? UneditedSuccess, Estimate? LocalityAccuracy, Estimate? Drawdown, Estimate? PerplexityDrawdown, Estimate? Retained,
    Estimate? LocalityKl)
{
    /// <param name="results">At least one.</param>
    /// <param name="edits">Made at once: so many cases share one edited model, and intervals are over models, then cases.</param>
    /// <param name="seed">Of the intervals.</param>
    public static EvaluationSummary Of(IReadOnlyList<CaseResult> results, int edits = 1, ulong seed = 0)
    {
        List<CaseResult> rephrased = [.. results.Where(result => result.Rephrases.Count > 0)];
        List<CaseResult> local = [.. results.Where(result => result.Locality.Count > 0)];
        return new(
            Mean(results, result => Share(result.Edit.After.Exact))!,
            Mean(rephrased, result => result.Rephrases.Average(question => Share(question.After.Exact))),
            Mean(results, result => result.Rephrases.Append(result.Edit).Average(question => Share(question.After.Exact)))!,
            Mean([.. results.Where(result => result.FreeRunning is not null)], result => Share(result.FreeRunning!.Value)),
            Mean(rephrased, result => result.Rephrases.Average(question => question.After.TokenAccuracy)),
            Mean(results, result => result.Rephrases.Append(result.Edit).Average(question => Share(question.Before.Exact))),
            Mean(local, result => result.Locality.Average(question => Share(question.Before.Exact))),
            Mean(local, result => result.Locality.Average(question => Share(question.Before.Exact) - Share(question.After.Exact))),
            local.Count == 0 ? null : Interval(local, PerplexityDifference),
            Mean(local, result => result.Locality.Average(question => Share(question.Retained))),
            Mean(local, result => result.LocalityKl!.Value));

        Estimate? Mean(IReadOnlyList<CaseResult> cases, Func<CaseResult, double> of) =>
            cases.Count == 0 ? null : Interval(cases, drawn => drawn.Average(of));

        Estimate Interval(IReadOnlyList<CaseResult> cases, Func<IReadOnlyList<CaseResult>, double> of) => edits == 1
            ? Bootstrap.Of(cases, of, seed)
            : Bootstrap.OfGroups([.. cases.GroupBy(result => result.Index / edits).Select(batch => (IReadOnlyList<CaseResult>)[.. batch])], of, seed);

        static double Share(bool holds) => holds ? 1 : 0;
    }

    private static double PerplexityDifference(IReadOnlyList<CaseResult> cases)
    {
        return Perplexity(question => question.After) - Perplexity(question => question.Before);

        double Perplexity(Func<QuestionResult, AnswerScore> score) => Math.Exp(
            cases.Sum(result => result.Locality.Sum(question => score(question).Nll * question.Tokens))
            / cases.Sum(result => result.Locality.Sum(question => question.Tokens)));
    }
}
