using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>An editor, measured with so many edits made at once.</summary>
/// <param name="Edits">Made at once.</param>
/// <param name="Summary">Over all cases of all batches.</param>
/// <param name="PerBatch">Mean time of making a batch's edits, without measuring them.</param>
public sealed record SimultaneousReport(string Editor, int Edits, int Batches, EvaluationSummary Summary, TimeSpan PerBatch, IReadOnlyList<CaseResult> Cases);

/// <summary>
/// Measures editors with many edits at once: the cases in batches, each of which edits the base model afresh with one proposal from all its
/// rows, and is then asked about every one of its cases. Of MEND that proposal is the sum of what it proposes for each edit.
/// </summary>
/// <param name="model">A Hugging Face directory.</param>
/// <param name="time">Measures the edits.</param>
public sealed class SimultaneousEdits(string model, TimeProvider time)
{
    private const int RecordedAtOnce = 32;

    /// <summary>Locality questions of each edit in a training step of many: they are most of its cost, and all edits share them.</summary>
    private const int LocalityOfEach = 3;

    /// <summary>Measures a trained editor.</summary>
    /// <param name="editor">Its file, of MEND, MALMEN or UltraEdit.</param>
    /// <param name="counts">How many edits to make at once. Cases that fill no batch are left out.</param>
    public IReadOnlyList<SimultaneousReport> Trained(
        string editor, IReadOnlyList<int> counts, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default)
    {
        using var loaded = EditorCheckpoint.Load(editor);
        return Measure(EditorComparison.NameOf(loaded.Algorithm), [.. loaded.Weights.Select(weight => weight.Name)], (stage, _) => batch => Prepared(stage, batch, loaded.Propose), counts, cases, progress, cancellation);
    }

    /// <summary>Measures UltraEdit, whose statistics are those of the batches that it has edited so far.</summary>
    /// <param name="editable">Weights; none: the family's choice.</param>
    public IReadOnlyList<SimultaneousReport> UltraEdit(UltraEditOptions options, IReadOnlyList<string> editable,
        IReadOnlyList<int> counts, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default)
    {
        UltraEdit? editor = null;
        var reports = Measure("UltraEdit", editable, (stage, batch) =>
        {
            if (batch == 0)
            {
                editor?.Dispose();
                editor = new(options, EditorTraining.EditableWeights(stage));
            }
            return edits => Prepared(stage, edits, rows =>
            {
                editor!.AddToStatistics(rows);
                return editor.Propose(rows);
            });
        }, counts, cases, progress, cancellation);
        editor?.Dispose();
        return reports;
    }

    /// <summary>Measures breadth-first fine-tuning, which like UltraEdit has nothing to train.</summary>
    public IReadOnlyList<SimultaneousReport> BreadthFirst(BreadthFirstOptions options,
        IReadOnlyList<int> counts, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default) =>
        Measure("FT, breadth-first", [EditableWeights.DownProjection(ModelFamily.FromDirectory(model), options.Validated().Block)],
            (stage, _) => edits => FineTuning.BreadthFirst(stage, options, edits).Edits, counts, cases, progress, cancellation);

    /// <summary>The edits as one batch: without locality questions that ask what one of the others changes.</summary>
    public static IReadOnlyList<EditRows> Together(IReadOnlyList<EditRows> edits)
    {
        var edited = edits.SelectMany(edit => edit.Rephrases.Append(edit.Edit)).Select(row => row.Prompt).ToHashSet();
        return [.. edits.Select(edit => edit with { Locality = [.. edit.Locality.Where(row => !edited.Contains(row.Prompt))] })];
    }

    /// <summary>The edits as a training step's batch: one rephrase of each as x'_e; all locality questions as x_loc, of many edits some of each.</summary>
    /// <param name="rng">Picks the rephrases, and the locality questions of many edits.</param>
    public static EditBatch Batch(TextBatch text, IReadOnlyList<EditRows> edits, Prng rng)
    {
        var together = edits.Count == 1 ? edits : Together(edits);
        if (together.All(edit => edit.Locality.Count == 0))
            throw new InvalidDataException($"{edits.Count} edits at once leave no question about anything else: take fewer, or edits with more such questions");
        return new(
            text.Of([.. together.Select(edit => edit.Edit)]),
            text.Of([.. together.Select(edit => rng.Pick(edit.Rephrases))]),
            text.Of([.. together.SelectMany(edit => edits.Count == 1 ? edit.Locality : [.. rng.Shuffle(edit.Locality).Take(LocalityOfEach)])]));
    }

    private static Edits Prepared(Stage stage, LabelledInput edits, Func<IReadOnlyDictionary<string, GradientFactors>, IReadOnlyDictionary<string, LowRankUpdate>> propose)
    {
        var count = edits.Input.BatchSize;
        var portions = Enumerable.Range(0, (int)(count + RecordedAtOnce - 1) / RecordedAtOnce).Select(i => i * RecordedAtOnce);
        return new(propose(TrainingStep.RecordEach(stage, portions.Select(first => edits.Slice(first, Math.Min(RecordedAtOnce, count - first))))));
    }

    private List<SimultaneousReport> Measure(string name, IReadOnlyList<string> editable, Func<Stage, int, Func<LabelledInput, Edits>> editor,
        IReadOnlyList<int> counts, IReadOnlyList<EditRows> cases, IProgress<CaseResult>? progress, CancellationToken cancellation)
    {
        foreach (var count in counts)
            if (count < 1 || count > cases.Count)
                throw new InvalidDataException($"{count} edits at once cannot be measured with {cases.Count} cases; it must be 1 to {cases.Count}");
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32), EditableWeights.Select(family, editable));
        var text = new TextBatch(family, TokenizerFiles.Load(model));
        var reports = new List<SimultaneousReport>();
        foreach (var count in counts)
        {
            var results = new List<CaseResult>();
            var spent = TimeSpan.Zero;
            var batches = cases.Count / count;
            for (var batch = 0; batch < batches; batch++)
            {
                using var scope = NewDisposeScope();
                var together = Together([.. cases.Skip(batch * count).Take(count)]);
                var make = editor(stage, batch);
                var start = time.GetTimestamp();
                var edits = make(text.Of([.. together.Select(edit => edit.Edit)]));
                spent += time.GetElapsedTime(start);
                results.AddRange(new Evaluation(stage, text, _ => edits).RunRows(together, progress, cancellation));
            }
            reports.Add(new(name, count, batches, EvaluationSummary.Of(results), spent / batches, results));
        }
        return reports;
    }
}
