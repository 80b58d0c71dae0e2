using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>The way from a task's folder to a trained editor: a small model that knows what the folder is about, and any editor for it.</summary>
public static class TaskTraining
{
    /// <summary>Learnt in some minutes on one thread from the generated sets.</summary>
    public static SmallT5Options QaModel { get; } = new()
    {
        Vocabulary = 2048,
        DFf = 512,
        Training = new() { Steps = 2600, Lr = 3e-3, Warmup = 100 },
        Goal = 0.99,
        Seed = 1,
    };

    /// <summary>The same for fact checking.</summary>
    public static SmallBertOptions FcModel { get; } = new()
    {
        Vocabulary = 8192,
        // Half as wide, claims are so near each other that an edit moves its neighbours: drawdown 0.032 where this has 0.025 in half the iterations.
        HiddenSize = 256,
        IntermediateSize = 1024,
        NumAttentionHeads = 8,
        // Claims are told apart by their names, and a label says nothing of them: from small embeddings, names whose claims have the same labels
        // become one, and no edit can change a claim without the others of its label. Large ones hardly move while they are trained.
        EmbeddingStd = 0.5,
        // To the end: claims that are only just known are lost to edits of others.
        Training = new() { Steps = 3500, Lr = 5e-4, Warmup = 200 },
        Goal = null,
        Seed = 1,
    };

    /// <summary>The same for generation.</summary>
    public static SmallGptOptions GenModel { get; } = new()
    {
        Vocabulary = 2048,
        BatchSize = 16,
        Training = new() { Steps = 1500, Lr = 3e-3, Warmup = 100 },
        Seed = 1,
    };

    /// <summary>
    /// All questions of a folder, in every wording, with their true answers. Validation's too: a model can only have its mind changed about what
    /// it knows, and a model trained from scratch knows nothing else.
    /// </summary>
    public static IReadOnlyList<QaPair> ReadQuestions(string folder, EditTaskKind kind)
    {
        var (training, validation) = TaskFolder.ReadEdits(folder, kind, seed: 0);
        return [.. training.Concat(validation).SelectMany(edit => edit.Rephrases.Prepend(edit.Prompt).Select(question => new QaPair(question, edit.Answer!)))
            .Concat(TaskFolder.OtherQuestions(folder, kind) ?? []).Concat(TaskFolder.MoreToKnow(folder, kind)).DistinctBy(pair => pair.Question)];
    }

    /// <summary>
    /// Settings for small models, for each algorithm: the demo's for MEND and MALMEN; for the others learning rates that suit models of a few hundred
    /// thousand weights.
    /// </summary>
    /// <param name="task">Null: edits with their own unrelated questions.</param>
    public static EditorTrainingOptions Defaults(EditTaskKind? task, EditorAlgorithm algorithm)
    {
        var shared = DemoRecipe.Editor with { Algorithm = algorithm, Mend = DemoRecipe.Editor.Mend with { Init = EditorInit.Identity }, ValSteps = 200, Seed = 1 };
        // With the published one unrelated row an editor learns what to spare far more slowly than what to change. Whole texts cost more than claims.
        shared = shared with { UnrelatedRows = task == EditTaskKind.Gen ? 2 : 8 };
        if (task is EditTaskKind.Fc or EditTaskKind.Gen)
            shared = shared with { Mend = shared.Mend with { Rank = 512 }, Lr = 1e-4, LrLr = 5e-4, MaxIters = 6500 };
        return algorithm switch
        {
            // The KL falls to the end: a few edits in a hundred move all claims of one label, and fewer do the longer it is trained. First steps that
            // are too large, or change too fast, end where every edit moves them all.
            EditorAlgorithm.Mend when task == EditTaskKind.Fc => shared with
            {
                Mend = shared.Mend with { EditLr = 3e-3 },
                LrLr = 5e-5,
                Loss = new(CEdit: 0.3),
                MaxIters = 26_000,
                EarlyStopPatience = 26_000,
            },
            // On 652 claims KE came to 0.68 edit success after 1000 iterations with this rate, and to 0.59 after 3000 with the other; ENN came to 0.98.
            EditorAlgorithm.Ke when task == EditTaskKind.Fc => shared with { Ke = new() { HiddenDim = 128, ConditionDim = 256 }, Lr = 1e-3 },
            EditorAlgorithm.Enn when task == EditTaskKind.Fc => shared with { Enn = new() { EditLr = 0.1 }, Lr = 3e-4, LrLr = 1e-3 },
            EditorAlgorithm.Ke => shared with { Ke = new() { HiddenDim = 128, ConditionDim = 256 }, Lr = 3e-4 },
            EditorAlgorithm.Enn => shared with { Lr = 1e-4, LrLr = 1e-3 },
            EditorAlgorithm.Malmen => DemoRecipe.Malmen with { Seed = 1 },
            _ => shared,
        };
    }

    /// <summary>
    /// Settings of fine-tuning: of the learning rates 1e-4, 3e-4, 1e-3 and 3e-3 the one with most edit success on rephrases less drawdown, on a world of another
    /// seed (of generation and fact checking 3e-3 was not tried: their drawdown is large at 1e-3 already).
    /// </summary>
    public static FineTuneOptions FineTune(EditTaskKind task) => DemoRecipe.FineTune with
    {
        EditLr = task switch { EditTaskKind.Fc => 1e-4, EditTaskKind.Gen => 3e-4, _ => DemoRecipe.FineTune.EditLr },
    };

    /// <summary>Trains an editor, or goes on with the run in the folder.</summary>
    /// <param name="model">A Hugging Face directory; not changed.</param>
    /// <param name="open">The task for the model's texts.</param>
    /// <param name="run">Configuration, metrics, curves, checkpoint and the best editor go there.</param>
    public static TrainingResult TrainEditor(string model, Func<TextBatch, IEditTask> open, EditorTrainingOptions options, string run,
        IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32), EditableWeights.Select(family, options.Editable));
        var data = EditorData.Of(model, open, options);
        return new EditorTraining(stage, data.Options, data.Training, data.Validation, new RunFolder(run)).Run(progress, cancellation);
    }
}
