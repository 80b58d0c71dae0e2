using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Training;

namespace MendCluster.Engine.Recipes;

/// <summary>
/// What a step makes. These settings and those of the step's inputs decide whether a product on disk is still this step's: everything that the
/// product depends on has to be here.
/// </summary>
public abstract record ReproductionWork(EditTaskKind Task);

/// <summary>A generated set, as <c>mend data generate</c> writes it; of generation the texts alone.</summary>
public sealed record DataWork(EditTaskKind Task, ulong Seed) : ReproductionWork(Task);

/// <summary>A small model that knows the set, as <c>mend pretrain</c> makes it.</summary>
/// <param name="Model">A T5's for question answering, a BERT's for fact checking, a GPT's for generation.</param>
public sealed record ModelWork(EditTaskKind Task, SmallModelOptions Model) : ReproductionWork(Task);

/// <summary>The texts together with the generation task's edits, which are drawn from the model.</summary>
public sealed record ContinuationsWork(ulong Seed, int Training, int Validation) : ReproductionWork(EditTaskKind.Gen);

/// <summary>An editor, as <c>mend train</c> makes it.</summary>
public sealed record EditorWork(EditTaskKind Task, EditorTrainingOptions Options) : ReproductionWork(Task);

/// <summary>One of the steps.</summary>
/// <param name="Name">Also the folder of its product.</param>
/// <param name="Inputs">Names of steps before it whose products it reads.</param>
/// <param name="Minutes">Estimated, on one processor.</param>
public sealed record ReproductionStep(string Name, IReadOnlyList<string> Inputs, double Minutes, ReproductionWork Work);

/// <summary>All that <c>mend reproduce</c> does, in order, with all settings. Both forms are here and nowhere else.</summary>
/// <param name="IsReduced">The same steps, so short that they show nothing but that they run.</param>
/// <param name="Tasks">Those chosen, in the paper's order.</param>
public sealed record ReproductionPlan(bool IsReduced, IReadOnlyList<EditTaskKind> Tasks, IReadOnlyList<ReproductionStep> Steps)
{
    private const ulong Seed = 1;

    /// <summary>The tasks in which MEND's ablations are trained and measured: the paper's Table 6.</summary>
    private static readonly EditTaskKind[] WithAblations = [EditTaskKind.Qa, EditTaskKind.Gen];

    /// <summary>The lines of the paper's Table 6, each a setting of MEND.</summary>
    private static readonly (string Name, Func<MendOptions, MendOptions> Of)[] Ablations =
    [
        ("not-shared", mend => mend with { Shared = false }),
        ("no-norm", mend => mend with { Norm = false }),
        ("no-identity", mend => mend with { Init = EditorInit.Xavier }),
        ("only-u", mend => mend with { Sides = EditorSides.UOnly }),
        ("only-delta", mend => mend with { Sides = EditorSides.DeltaOnly }),
        ("only-smaller", mend => mend with { Sides = EditorSides.Smaller }),
    ];

    /// <param name="tasks">None: all.</param>
    public static ReproductionPlan Of(bool reduced, params IReadOnlyCollection<EditTaskKind> tasks)
    {
        EditTaskKind[] chosen = [.. Enum.GetValues<EditTaskKind>().Where(task => tasks.Count == 0 || tasks.Contains(task))];
        return new(reduced, chosen, [.. chosen.SelectMany(task => StepsOf(task, reduced))]);
    }

    public static string DataOf(EditTaskKind task) => $"data/{Name(task)}";

    public static string ModelOf(EditTaskKind task) => $"models/{Name(task)}";

    private static string Name(EditTaskKind task) => task.ToString().ToLowerInvariant();

    private static IEnumerable<ReproductionStep> StepsOf(EditTaskKind task, bool reduced)
    {
        var (data, model) = (DataOf(task), ModelOf(task));
        if (task == EditTaskKind.Gen)
        {
            const string texts = "data/gen-texts"; // the model learns from these, and the edits are drawn from the model
            yield return new(texts, [], 0.2, new DataWork(task, Seed));
            yield return new(model, [texts], 6, new ModelWork(task, Model(task, reduced)));
            yield return new(data, [texts, model], 3, reduced ? new ContinuationsWork(Seed, 40, 8) : new ContinuationsWork(Seed, 2000, 200));
        }
        else
        {
            yield return new(data, [], 0.1, new DataWork(task, Seed));
            yield return new(model, [data], 4, new ModelWork(task, Model(task, reduced)));
        }
        foreach (var (name, options) in Editors(task))
            yield return new($"editors/{Name(task)}/{name}", [data, model], Minutes(task, options), new EditorWork(task, reduced ? Short(options) : options));
    }

    private static IEnumerable<(string Name, EditorTrainingOptions Options)> Editors(EditTaskKind task)
    {
        var mend = TaskTraining.Defaults(EditorAlgorithm.Mend);
        yield return ("mend", mend);
        yield return ("ke", TaskTraining.Defaults(EditorAlgorithm.Ke));
        yield return ("enn", TaskTraining.Defaults(EditorAlgorithm.Enn));
        if (task == EditTaskKind.Qa)
            yield return ("malmen", TaskTraining.Defaults(EditorAlgorithm.Malmen));
        if (WithAblations.Contains(task))
            foreach (var (name, of) in Ablations)
                yield return ("mend-" + name, mend with { Mend = of(mend.Mend) });
    }

    private static SmallModelOptions Model(EditTaskKind task, bool reduced)
    {
        SmallModelOptions full = task switch
        {
            EditTaskKind.Qa => TaskTraining.QaModel,
            EditTaskKind.Fc => TaskTraining.FcModel,
            _ => TaskTraining.GenModel,
        };
        return reduced ? full with { BatchSize = 16, Training = full.Training with { Steps = 50, Warmup = 5 } } : full;
    }

    /// <summary>Two optimiser steps, and a validation after each: the second is what a stopped run goes on with.</summary>
    private static EditorTrainingOptions Short(EditorTrainingOptions options)
    {
        const int accumulate = 2, edits = 8;
        return options with
        {
            Mend = options.Mend with { Rank = 16 },
            Malmen = options.Malmen with { Rank = 16 },
            Ke = options.Ke with { HiddenDim = 16, ConditionDim = 16 },
            Edits = Math.Min(edits, options.Edits),
            AccumulateBs = accumulate,
            ValInterval = accumulate,
            ValSteps = 2,
            MaxIters = 2 * accumulate,
        };
    }

    /// <summary>From the iterations: what one takes was measured with the small models of <see cref="TaskTraining"/>.</summary>
    private static double Minutes(EditTaskKind task, EditorTrainingOptions options)
    {
        var seconds = (task, options.Algorithm) switch
        {
            (_, EditorAlgorithm.Malmen) => 0.04 * options.Edits,
            (EditTaskKind.Gen, EditorAlgorithm.Enn) => 0.08,
            (EditTaskKind.Gen, _) => 0.06,
            (_, EditorAlgorithm.Enn) => 0.05,
            _ => 0.03,
        };
        return seconds * options.MaxIters / 60;
    }
}
