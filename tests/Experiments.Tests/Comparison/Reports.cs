using MendCluster.Engine.Data;

namespace MendCluster.Experiments.Tests;

/// <summary>Reports with known figures.</summary>
internal static class Reports
{
    /// <summary>Two cases, of which as many as said keep the edit on their rephrase.</summary>
    public static EditorReport Of(string editor, int edits = 1, int kept = 2, EditTaskKind task = EditTaskKind.Qa)
    {
        AnswerScore right = new(true, 1, 0.1), wrong = new(false, 0, 2);
        List<CaseResult> cases = [.. Enumerable.Range(0, 2).Select(i =>
        {
            var rephrase = new QuestionResult("Q?", "A", 1, wrong, i < kept ? right : wrong, true);
            return new CaseResult(i, rephrase with { After = right }, [rephrase], [rephrase with { Before = right, After = right }], 0.25,
                i < kept);
        })];
        return new(editor, edits, 2 / edits, EvaluationSummary.Of(cases, edits), TimeSpan.FromMilliseconds(12.5), 2_500_000,
            Protocol(editor) with { Task = task, Edits = edits }, cases);
    }

    public static Protocol Protocol(string editor) =>
        new(EditTaskKind.Qa, 1, "Exact match.", "Own rows.", "32 tokens.", "float32", 7, 2, "d1", "m1", $"of {editor}");
}
