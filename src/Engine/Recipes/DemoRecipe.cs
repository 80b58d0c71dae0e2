using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>
/// The demo: a small T5 that knows a generated world of about a thousand facts, and its MEND editor. Both are shipped; this makes them
/// anew from the seed.
/// </summary>
public static class DemoRecipe
{
    public const ulong Seed = 1;

    public const string EditorFile = "editor.safetensors";

    /// <summary>Questions and answers of the training part, a tab between them, for the cluster to try edits on.</summary>
    public const string ProbesFile = "probes.tsv";

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

    /// <summary>Settings of the fine-tuning that stands beside MEND: a learning rate that suits the small model.</summary>
    public static FineTuneOptions FineTune { get; } = new() { EditLr = 1e-3 };

    /// <summary>The held-out edits: facts that no editor was trained on, asked in phrasings that none was trained on.</summary>
    public static IReadOnlyList<EditExample> HeldOutEdits()
    {
        var world = World.Generate(Seed);
        return world.EditExamples(world.Split.HeldOut, Prng.At(Seed, 300), newPhrasings: true);
    }

    /// <summary>Writes model, tokenizer and editor into the directory, and the training run into a folder <c>run</c> below it.</summary>
    public static void Make(string directory, Action<PretrainingProgress>? model = null, IProgress<TrainingProgress>? editor = null,
        CancellationToken cancellation = default)
    {
        var world = World.Generate(Seed);
        SmallT5.Train(directory, [.. world.Questions()], Model, model, cancellation);
        TrainEditor(directory, world, Editor, editor, cancellation);
        File.WriteAllLines(Path.Combine(directory, ProbesFile), Prng.At(Seed, 16).Shuffle(world.Split.Training).Take(Probes)
            .Select(fact => $"{fact.Question(0)}\t{fact.Object}"));
    }

    /// <summary>Trains the editor for the model in the directory.</summary>
    public static void TrainEditor(string directory, World world, EditorTrainingOptions options, IProgress<TrainingProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(directory);
        using var files = HuggingFaceDirectory.Open(directory);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32));
        var text = new TextBatch(family, TokenizerFiles.Load(directory));
        var run = new RunFolder(Path.Combine(directory, "run"));
        var facts = world.Split.Training;
        var order = new EditSampler(Seed, facts.Count, 0, sameRows: false, 1, 0);
        new EditorTraining(stage, options,
            iteration => Batch(text, world.TrainingEdit(facts[order.At(iteration).Edits[0]], Prng.At(Seed, (ulong)iteration)), Prng.At(~Seed, (ulong)iteration)),
            i => Batch(text, world.Edit(world.Split.Validation[i % world.Split.Validation.Count], world.Split.Validation, Prng.At(Seed + 1, (ulong)i), newPhrasings: true),
                Prng.At(~Seed - 1, (ulong)i)),
            run).Run(progress, cancellation);
        File.Copy(run.BestEditor, Path.Combine(directory, EditorFile), overwrite: true);
    }

    /// <summary>One rephrase as x'_e, all locality questions as x_loc.</summary>
    private static EditBatch Batch(TextBatch text, EditExample example, Prng rng) => new(
        text.Of([(example.Prompt, example.Target)]),
        text.Of([(rng.Pick(example.Rephrases), example.Target)]),
        text.Of([.. example.Locality.Select(pair => (pair.Question, pair.Answer))]));
}
