using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>Question answering on files of real questions: a small model that knows the answers, and its editor.</summary>
public static class QuestionAnswering
{
    /// <summary>Edits of an evaluation or training set, in any of the published forms (mend-spec 6.2, 6.6).</summary>
    /// <param name="path">
    /// <c>.json</c>: the export form; <c>.jsonl</c>: the paper's; <c>.tsv</c>: questions and answers, from which edits are made: the target is
    /// another question's answer, the rephrases are by rule, the locality is other questions.
    /// </param>
    public static IReadOnlyList<EditExample> ReadEdits(string path, ulong seed)
    {
        var edits = Path.GetExtension(path) switch
        {
            ".json" => ZsRe.ReadExport(path),
            ".jsonl" => ZsRe.ReadPaper(path, Prng.At(seed, 0)),
            ".tsv" => EditsOf(ZsRe.ReadTsv(path), seed),
            var other => throw new InvalidDataException($"{path}: the form of a {other} file is not known; known: .json, .jsonl, .tsv"),
        };
        return edits;
    }

    /// <summary>All questions of the files with their answers: what a model is to know before it is edited.</summary>
    /// <param name="withRewordings">Each question also in another wording, by rule.</param>
    public static IReadOnlyList<QaPair> ReadQuestions(IEnumerable<string> paths, bool withRewordings, ulong seed)
    {
        List<QaPair> pairs = [.. paths.SelectMany(path => Path.GetExtension(path) == ".tsv"
            ? ZsRe.ReadTsv(path)
            : ReadEdits(path, seed).SelectMany(edit => edit.Answer is { } answer ? edit.Locality.Append(new(edit.Prompt, answer)) : edit.Locality))
            .DistinctBy(pair => pair.Question)];
        if (!withRewordings)
            return pairs;
        var known = pairs.Select(pair => pair.Question).ToHashSet();
        return [.. pairs, .. pairs.Select((pair, i) => pair with { Question = Prng.At(seed, (ulong)i).Pick(Rewording.Of(pair.Question)) })
            .Where(pair => known.Add(pair.Question))];
    }

    /// <summary>Trains an editor, or goes on with the run in the folder.</summary>
    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="edits">The last tenth, at most 200, is kept for validation.</param>
    /// <param name="run">Configuration, metrics, curves, checkpoint and the best editor go there.</param>
    public static TrainingResult TrainEditor(string model, IReadOnlyList<EditExample> edits, EditorTrainingOptions options, string run,
        IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32), EditableWeights.Select(family, options.Editable));
        var data = EditorData.Of(model, edits, options);
        return new EditorTraining(stage, data.Options, data.Training, data.Validation, new RunFolder(run)).Run(progress, cancellation);
    }

    private static List<EditExample> EditsOf(IReadOnlyList<QaPair> pairs, ulong seed)
    {
        const int locality = 4;
        if (pairs.Count <= locality)
            throw new InvalidDataException($"{pairs.Count} questions are too few to make edits of; at least {locality + 1} are needed");
        return [.. pairs.Select((pair, i) =>
        {
            var rng = Prng.At(seed, (ulong)i);
            QaPair Other()
            {
                QaPair other;
                do
                    other = rng.Pick(pairs);
                while (other.Question == pair.Question);
                return other;
            }
            string target;
            do
                target = Other().Answer;
            while (target == pair.Answer && pairs.Any(other => other.Answer != pair.Answer));
            return new EditExample(pair.Question, target, Rewording.Of(pair.Question), [.. Enumerable.Range(0, locality).Select(_ => Other())], pair.Answer);
        })];
    }
}

/// <summary>What a training run reads: a function of the iteration's number, so that a run goes on where it stopped and any replica can make it.</summary>
/// <param name="Options">With no more validation edits than there are.</param>
public sealed record EditorData(EditorTrainingOptions Options, Func<long, EditBatch> Training, Func<int, EditBatch> Validation)
{
    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="edits">The last tenth, at most 200, is kept for validation.</param>
    public static EditorData Of(string model, IReadOnlyList<EditExample> edits, EditorTrainingOptions options)
    {
        var text = new TextBatch(ModelFamily.FromDirectory(model), TokenizerFiles.Load(model));
        var kept = Math.Clamp(edits.Count / 10, 1, 200);
        var (training, validation) = (edits.SkipLast(kept).ToList(), edits.TakeLast(kept).ToList());
        var seed = (ulong)options.Seed;
        var order = new EditSampler(seed, training.Count, 0, sameRows: false, options.Edits, 0);
        return new(options with { ValSteps = Math.Clamp(options.ValSteps, 1, Math.Max(1, kept / options.Edits)) },
            iteration => SimultaneousEdits.Batch(text, [.. order.At(iteration).Edits.Select(i => training[i])], Prng.At(~seed, (ulong)iteration)),
            i => SimultaneousEdits.Batch(text, [.. validation.Skip(i * options.Edits).Take(options.Edits)], Prng.At(~seed - 1, (ulong)i)));
    }
}
