using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>
/// The demo: a small T5 that knows a generated world of about a thousand facts, and its MEND editor. Both are shipped; this makes them
/// anew from the seed.
/// </summary>
public static class DemoRecipe
{
    public const ulong Seed = 1;

    /// <summary>Questions and answers of the training part, for the cluster to try edits on.</summary>
    private const int Probes = 16;

    public static SmallT5Options Model { get; } = new()
    {
        Vocabulary = 2048,
        DModel = 128,
        DFf = 512,
        Training = new() { Steps = 2600, Lr = 3e-3, Warmup = 100 },
        StoreBFloat16 = true,
        Seed = Seed,
    };

    /// <summary>
    /// The paper's settings but for the size: its learning rate of 1e-6 is for a rank of 1920, and the step of a block's output grows with
    /// rank and width.
    /// </summary>
    public static EditorTrainingOptions Editor { get; } = new()
    {
        Mend = new() { Rank = 224, EditLr = 1e-2 },
        Loss = new(CEdit: 0.5),
        Lr = 5e-5,
        LrLr = 2e-4,
        AccumulateBs = 5,
        GradClip = 5, // below the median norm: single edits with a gradient a hundred times the usual one would undo the others
        FinalRate = 0.05,
        Averaging = 0.998,
        ValInterval = 1300,
        ValSteps = 180, // three edits of each fact
        MaxIters = 13_000,
        EarlyStopPatience = 13_000,
        Seed = (long)Seed,
    };

    /// <summary>
    /// An editor of many edits at once for the same model. The published ridge of 1 is small beside this model's keys, whose squared norms
    /// reach thousands: directions that the rows hardly have then get the largest shifts, and unrelated answers pay.
    /// </summary>
    public static EditorTrainingOptions Malmen { get; } = new()
    {
        Algorithm = EditorAlgorithm.Malmen,
        Malmen = new() { Rank = 224, EditLr = 4e-3, Lambda = 300, ModelBatch = 64 },
        Edits = 60,
        Loss = new(CEdit: 1),
        Lr = 2e-4,
        LrLr = 2e-4,
        AccumulateBs = 1,
        GradClip = 5,
        FinalRate = 0.05,
        Averaging = 0.95,
        ValInterval = 50,
        ValSteps = 2,
        MaxIters = 250,
        EarlyStopPatience = 250,
        Seed = (long)Seed,
    };

    /// <summary>UltraEdit's step and ridge, chosen on the training facts: the published ones are for other keys.</summary>
    public static UltraEditOptions UltraEdit { get; } = new() { EditLr = 2e-3, Lambda = 30 };

    /// <summary>Settings of the fine-tuning that stands beside MEND: a learning rate that suits the small model.</summary>
    public static FineTuneOptions FineTune { get; } = new() { EditLr = 1e-3 };

    /// <summary>
    /// Breadth-first fine-tuning, which stands beside the editors of many edits. Rate and block were chosen on 125 edits of training facts:
    /// at a rate of 1e-2 the decoder's last block had a drawdown of 0.17 and the other four 0.30 to 0.59, and half the rate halves its own.
    /// </summary>
    public static BreadthFirstOptions BreadthFirst { get; } = new() { Block = -1, EditLr = 5e-3 };

    /// <summary>The held-out edits: facts that no editor was trained on, asked in phrasings that none was trained on.</summary>
    /// <param name="atOnce">Most edits that are to be made at once. More than there are facts are <see cref="World.EditsAtOnce"/>.</param>
    public static IReadOnlyList<EditExample> HeldOutEdits(int atOnce = 1)
    {
        var world = World.Generate(Seed);
        return atOnce > world.Split.HeldOut.Count ? SyntheticTasks.ManyEdits(Seed, atOnce)
            : world.EditExamples(world.Split.HeldOut, Prng.At(Seed, 300), newPhrasings: true);
    }

    /// <summary>Writes model, tokenizer and editor into the directory, and the training run into a folder <c>run</c> below it.</summary>
    public static void Make(string directory, Action<PretrainingProgress>? model = null, IProgress<TrainingProgress>? editor = null,
        CancellationToken cancellation = default)
    {
        var world = World.Generate(Seed);
        SmallT5.Train(directory, [.. world.Questions()], Model, model, cancellation: cancellation);
        TrainEditor(directory, world, Editor, editor, cancellation);
        WriteQuestions(directory);
    }

    /// <summary>Writes the probes and what consolidations replay into the directory.</summary>
    public static void WriteQuestions(string directory)
    {
        var (probes, replay) = SyntheticTasks.Known(World.Generate(Seed), Seed, Probes);
        Write(ProbeSet.FileName, probes);
        Write(ReplaySet.FileName, replay);

        void Write(string file, IEnumerable<Probe> questions) =>
            File.WriteAllLines(Path.Combine(directory, file), questions.Select(asked => $"{asked.Question}\t{asked.Answer}"));
    }

    /// <summary>Trains the editor for the model in the directory.</summary>
    public static void TrainEditor(string directory, World world, EditorTrainingOptions options,
        IProgress<TrainingProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(directory);
        using var files = HuggingFaceDirectory.Open(directory);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32),
            EditableWeights.Select(family, options.Editable));
        var text = new TextBatch(family, TokenizerFiles.Load(directory));
        var run = new RunFolder(Path.Combine(directory, "run"),
            new(Convert.ToHexStringLower(CheckpointFingerprint.Of(directory)), $"world {Seed}"));
        var facts = world.Split.Training;
        var order = new EditSampler(Seed, facts.Count, 0, sameRows: false, options.Edits, 0);
        var unseen = world.Split.Validation;
        new EditorTraining(stage, options,
            iteration =>
            {
                var rng = Prng.At(Seed, (ulong)iteration);
                return SimultaneousEdits.Batch(text,
                    [.. order.At(iteration).Edits.Select(i => text.Rows(world.TrainingEdit(facts[i], rng)))],
                    Prng.At(~Seed, (ulong)iteration));
            },
            i =>
            {
                var rng = Prng.At(Seed + 1, (ulong)i);
                var edits = Math.Min(options.Edits, unseen.Count / 2); // the others are asked whether they stay
                return SimultaneousEdits.Batch(text, [.. Enumerable.Range(i * edits, edits)
                    .Select(edit => text.Rows(world.Edit(unseen[edit % unseen.Count], unseen, rng, newPhrasings: true)))],
                        Prng.At(~Seed - 1, (ulong)i));
            },
            run).Run(progress, cancellation);
        TrainingReports.DrawCurves(run);
        cancellation.ThrowIfCancellationRequested(); // a training that is told to stop ends as if it were over
        File.Copy(run.BestEditor, Path.Combine(directory, EditorCheckpoint.FileName), overwrite: true);
    }
}
