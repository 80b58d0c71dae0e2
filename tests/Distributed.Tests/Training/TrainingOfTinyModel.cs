using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Training;

/// <summary>A tiny model in a folder of its own, and runs that train an editor for it on the same edits.</summary>
internal sealed class TrainingOfTinyModel : IDisposable
{
    /// <summary>Edits of a step.</summary>
    public const int Window = 5;

    private static readonly string[] Prompts =
        ["who is the mayor", "what is red", "the old town", "a woman from the south", "the mayor is red", "who is a woman"];
    private static readonly string[] Targets = ["blue", "the south", "red", "a woman", "the old town"];

    private readonly TemporaryFolder _folder = new();
    private readonly TextBatch _text;

    public TrainingOfTinyModel(string family)
    {
        TinyModels.Write(Model, family);
        Family = ModelFamily.FromDirectory(Model);
        _text = new(Family, TokenizerFiles.Load(Model));
    }

    public string Model => Directory.CreateDirectory(_folder["model"]).FullName;

    public ModelFamily Family { get; }

    public string Folder(string run) => _folder[run];

    public RunFolder Run(string run) => new(Folder(run));

    public static EditorTrainingOptions Options(long steps) => new()
    {
        Mend = new() { Rank = 4, EditLr = 0.1 },
        // Adam turns rounding into steps of this size where a gradient is nearly 0; the tiny T5 doubles a difference every three steps
        Lr = 1e-5,
        LrLr = 1e-3,
        AccumulateBs = Window,
        GradClip = 1,
        ValInterval = 5 * Window,
        ValSteps = 4,
        MaxIters = steps * Window,
    };

    public EditBatch Batch(long i)
    {
        var target = Family.Labels?[(int)(i % 2)] ?? Targets[i % Targets.Length];
        return new(
            _text.Of([(Prompts[i % Prompts.Length], target)]),
            _text.Of([(Prompts[(i + 1) % Prompts.Length], target)]),
            _text.Of([(Prompts[(i + 2) % Prompts.Length], Family.Labels?[0] ?? "red"),
                (Prompts[(i + 3) % Prompts.Length], Family.Labels?[1] ?? "a woman from the south")]));
    }

    public EditorTrainerOptions TrainerOptions(string run, EditorTrainingOptions options, bool bfloat16 = false,
        Func<long, EditBatch>? batch = null) => new()
        {
            Training = options,
            Weights = EditorTraining.EditableWeights(Family, options.Editable),
            TrainingBatch = batch ?? Batch,
            ValidationBatch = i => Batch(i + 1),
            Run = Run(run),
            BFloat16OnWire = bfloat16,
        };

    /// <returns>The result, and what was reported after every step.</returns>
    public async Task<(TrainingResult Result, IReadOnlyList<TrainingProgress> Steps)> TrainAsync(
        string run, int replicas, int stages, EditorTrainingOptions options, bool bfloat16 = false,
        Func<ITrainingShard, ShardPlace, ITrainingShard>? wrap = null, Action<TrainingProgress>? onStep = null,
            Func<long, EditBatch>? batch = null, CancellationToken cancellation = default)
    {
        await using var trainer =
            new EmbeddedTrainer(Model, replicas, stages, TrainerOptions(run, options, bfloat16, batch), DType.Float32, wrap
            ?? ((shard, _) => shard));
        var steps = new Steps(onStep);
        return (await trainer.TrainAsync(steps, cancellation), steps.Taken);
    }

    /// <summary>The same run without shards.</summary>
    public TrainingResult TrainOnOneMachine(string run, EditorTrainingOptions options)
    {
        using var files = HuggingFaceDirectory.Open(Model);
        using var stage = Stage.LoadWhole(Family, new CheckpointWeights(files, ScalarType.Float32));
        return new EditorTraining(stage, options, Batch, i => Batch(i + 1), Run(run)).Run();
    }

    /// <summary>Everything in a run's checkpoint, to the last bit.</summary>
    public IReadOnlyDictionary<string, float[]> State(string run)
    {
        using var scope = NewDisposeScope();
        using var checkpoint = EditorCheckpoint.Open(Run(run).Checkpoint);
        using var state = new EditorState(checkpoint.Editor(), Options(1) with { Averaging = 0 });
        checkpoint.Restore(state.Adam, null);
        return state.Mend.State.Concat(state.Adam.State)
            .ToDictionary(entry => entry.Name, entry => entry.Value.to_type(ScalarType.Float32).detach().flatten().data<float>().ToArray());
    }

    public void Dispose() => _folder.Dispose();

    private sealed class Steps(Action<TrainingProgress>? onStep) : IProgress<TrainingProgress>
    {
        public List<TrainingProgress> Taken { get; } = [];

        public void Report(TrainingProgress value)
        {
            Taken.Add(value);
            onStep?.Invoke(value);
        }
    }
}
