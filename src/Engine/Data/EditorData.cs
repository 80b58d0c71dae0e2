using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;

namespace MendCluster.Engine.Data;

/// <summary>
/// What a training run reads: a function of the iteration's number, so that a run goes on where it stopped and any replica can make it.
/// </summary>
/// <param name="Options">With no more validation edits than there are.</param>
/// <param name="Digest">Of what was read.</param>
/// <param name="Preserved">Questions whose keys the editor is to go round, in portions that pass through the model together.</param>
public sealed record EditorData(EditorTrainingOptions Options, Func<long, EditBatch> Training, Func<int, EditBatch> Validation,
    string Digest, IEnumerable<LabelledInput>? Preserved = null)
{
    /// <summary>Of questions to preserve.</summary>
    private const int PassedTogether = 128;

    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="open">The task for the model's texts.</param>
    /// <param name="preserve">Questions whose keys the editor is to go round; null: none.</param>
    public static EditorData Of(string model, Func<TextBatch, IEditTask> open, EditorTrainingOptions options,
        IReadOnlyList<QaPair>? preserve = null)
    {
        var text = new TextBatch(ModelFamily.FromDirectory(model), TokenizerFiles.Load(model));
        var task = open(text);
        var (seed, edits) = ((ulong)options.Seed, options.Edits);
        // Draws of facts that the batch has already are passed over, so it may reach for the next ones' draws.
        return new(options with { ValSteps = Math.Clamp(options.ValSteps, 1, Math.Max(1, task.ValidationCount / edits)) },
            iteration => Batch(Enumerable.Range(0, 2 * edits).Select(i => task.Training(iteration * edits + i)),
                Prng.At(~seed - 2, (ulong)iteration)),
            i => Batch(Enumerable.Range(i * edits, edits).Where(edit => edit < task.ValidationCount).Select(task.Validation),
                Prng.At(~seed - 3, (ulong)i)),
            preserve is null ? task.Digest : DataFile.Digest(new { task.Digest, preserve }),
            preserve is null ? null : Portions(text, preserve));

        EditBatch Batch(IEnumerable<EditRows> rows, Prng rng) =>
            SimultaneousEdits.Batch(text, [.. SimultaneousEdits.OfDifferentFacts(rows).Take(edits)], rng);
    }

    /// <summary>Questions with their answers, in portions that pass through the model together.</summary>
    public static IEnumerable<LabelledInput> Portions(TextBatch text, IEnumerable<QaPair> questions) =>
        questions.Chunk(PassedTogether).Select(portion => text.Of([.. portion.Select(pair => (pair.Question, pair.Answer))]));

    /// <param name="edits">As <see cref="QuestionAnswering.Task"/> divides them.</param>
    public static EditorData Of(string model, IReadOnlyList<EditExample> edits, EditorTrainingOptions options) =>
        Of(model, text => QuestionAnswering.Task(text, edits, (ulong)options.Seed), options);
}
