using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;

namespace MendCluster.Experiments;

/// <summary>
/// What a step makes. These settings and those of the step's inputs decide whether a product on disk is still this step's: everything that
/// the product depends on has to be here.
/// </summary>
public abstract record ReproductionWork(EditTaskKind Task);

/// <summary>A generated set, as <c>mend data generate</c> writes it; of generation the texts alone.</summary>
public sealed record DataWork(EditTaskKind Task, ulong Seed) : ReproductionWork(Task);

/// <summary>A small model that knows the set, as <c>mend pretrain</c> makes it.</summary>
/// <param name="Model">A T5's for question answering, a BERT's for fact checking, a GPT's for generation.</param>
public sealed record ModelWork(EditTaskKind Task, SmallModelOptions Model) : ReproductionWork(Task);

/// <summary>The texts together with the generation task's edits, which are drawn from the model.</summary>
public sealed record ContinuationsWork(ulong Seed, int Training, int Validation, int Choice) : ReproductionWork(EditTaskKind.Gen);

/// <summary>An editor, as <c>mend train</c> makes it.</summary>
public sealed record EditorWork(EditTaskKind Task, EditorTrainingOptions Options) : ReproductionWork(Task);

/// <summary>Which of the paper's tables a measurement is for.</summary>
public enum ComparisonKind
{
    /// <summary>Editors one edit at a time: tables 3 and 4.</summary>
    SideBySide,

    /// <summary>Many edits at once: table 5.</summary>
    AtOnce,

    /// <summary>MEND without one of its parts: table 6.</summary>
    Ablations,
}

/// <summary>Editors, measured on the task's validation edits.</summary>
/// <param name="Trained">Steps of their trainings, in the table's order; those that need no training stand around them.</param>
/// <param name="FineTune">Settings of FT and FT+KL, both of which are measured; null: neither.</param>
/// <param name="BreadthFirst">Null: not measured.</param>
/// <param name="UltraEdit">Null: not measured.</param>
/// <param name="Confidence">
/// MEND is measured a second time with each edit as strong as it has to be for this, as through a cluster. Null: it is not.
/// </param>
/// <param name="Editable">Weights that the untrained change, as <see cref="EditorTrainingOptions.Editable"/>.</param>
/// <param name="Counts">Edits at once.</param>
/// <param name="MaxCases">The first so many edits are measured.</param>
public sealed record MeasurementWork(EditTaskKind Task, ComparisonKind Kind, IReadOnlyList<string> Trained,
    FineTuneOptions? FineTune, BreadthFirstOptions? BreadthFirst,
    UltraEditOptions? UltraEdit, double? Confidence, IReadOnlyList<string> Editable, IReadOnlyList<int> Counts, int MaxCases, ulong Seed)
        : ReproductionWork(Task);

/// <summary>What can be chosen of it.</summary>
public enum ReproductionPart
{
    /// <summary>The paper's comparison on question answering.</summary>
    Qa,

    /// <summary>The same on fact checking.</summary>
    Fc,

    /// <summary>The same on generation.</summary>
    Gen,

    /// <summary>A thousand facts, at once and one after another: <see cref="ThousandFactsPlan"/>.</summary>
    Facts,
}

/// <summary>One of the steps.</summary>
/// <param name="Name">Also the folder of its product.</param>
/// <param name="Inputs">Names of steps before it whose products it reads.</param>
/// <param name="Minutes">Estimated, on one processor.</param>
public sealed record ReproductionStep(string Name, IReadOnlyList<string> Inputs, double Minutes, ReproductionWork Work);

/// <summary>All that <c>mend reproduce</c> does, in order, with all settings. Both forms are here and nowhere else.</summary>
/// <param name="IsReduced">The same steps, so short that they show nothing but that they run.</param>
public sealed record ReproductionPlan(bool IsReduced, IReadOnlyList<ReproductionStep> Steps)
{
    /// <summary>No setting was chosen on a world of this seed.</summary>
    private const ulong Seed = 11;

    /// <summary>More than any generated set has: a measurement reads them all.</summary>
    private const int MaxCases = 1000;

    /// <summary>Of the paper's table 5, which has 5, 75 and 125 too.</summary>
    private const int AtOnce = 25;

    /// <summary>Worlds of <see cref="ReproductionPart.Facts"/>; no setting was chosen on one of them either.</summary>
    private static readonly ulong[] Worlds = [11, 12, 13];

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

    /// <param name="parts">None: all.</param>
    public static ReproductionPlan Of(bool reduced, params IReadOnlyCollection<ReproductionPart> parts)
    {
        var steps = Enum.GetValues<ReproductionPart>().Where(part => parts.Count == 0 || parts.Contains(part)).SelectMany(part => part switch
        {
            ReproductionPart.Qa => StepsOf(EditTaskKind.Qa, reduced),
            ReproductionPart.Fc => StepsOf(EditTaskKind.Fc, reduced),
            ReproductionPart.Gen => StepsOf(EditTaskKind.Gen, reduced),
            _ => (reduced ? Worlds[..2] : Worlds).SelectMany(world => ThousandFactsPlan.Of(world, reduced)),
        });
        return new(reduced, [.. reduced ? steps.Select(step => step with { Minutes = 0.05 }) : steps]);
    }

    private static IEnumerable<ReproductionStep> StepsOf(EditTaskKind task, bool reduced)
    {
        var name = task.ToString().ToLowerInvariant();
        var (data, model) = ($"data/{name}", $"models/{name}");
        if (task == EditTaskKind.Gen)
        {
            const string texts = "data/gen-texts"; // the model learns from these, and the edits are drawn from the model
            yield return new(texts, [], 0.2, new DataWork(task, Seed));
            yield return new(model, [texts], 4, new ModelWork(task, Model(task, reduced)));
            yield return new(data, [texts, model], 1, reduced ? new ContinuationsWork(Seed, 40, 8, 8)
                : new ContinuationsWork(Seed, 2000, 200, 100));
        }
        else
        {
            yield return new(data, [], 0.1, new DataWork(task, Seed));
            yield return new(model, [data], task == EditTaskKind.Fc ? 6 : 3, new ModelWork(task, Model(task, reduced)));
        }

        var (options, ennOptions) = (Defaults(EditorAlgorithm.Mend), Defaults(EditorAlgorithm.Enn));
        var (enn, ke, mend) = (Editor("enn", ennOptions), Editor("ke", Defaults(EditorAlgorithm.Ke)), Editor("mend", options));
        ReproductionStep[] ablations = task == EditTaskKind.Fc ? [] // as in the paper
            : [.. Ablations.Select(ablation => Editor("mend-" + ablation.Name, options with { Mend = ablation.Of(options.Mend) }))];
        foreach (var editor in new[] { mend, ke, enn }.Concat(ablations))
            yield return editor;

        var few = reduced ? 4 : MaxCases;
        // Of one claim the last block has one row of gradient, and UltraEdit normalises by the spread of what it has seen.
        var ultraEdit = task == EditTaskKind.Fc ? null : DemoRecipe.UltraEdit;
        yield return Measurement(name, 2,
            new(task, ComparisonKind.SideBySide, Names([enn, ke, mend]), TaskTraining.FineTune(task),
            DemoRecipe.BreadthFirst, ultraEdit, new EditOptions().Confidence, options.Editable, [1], few, Seed));
        if (task == EditTaskKind.Qa)
        {
            // as in the paper's table 5, these two are trained anew for the number of edits
            var edits = reduced ? 4 : AtOnce;
            var (enns, mends) = (Editor($"enn-{AtOnce}", TaskTraining.AtOnce(ennOptions, edits)),
                Editor($"mend-{AtOnce}", TaskTraining.AtOnce(options, edits)));
            yield return enns;
            yield return mends;
            yield return Measurement($"{name}-at-once", 2, new(task, ComparisonKind.AtOnce, Names([enns, mends]), null, null, null, null,
                options.Editable, [edits], reduced ? edits : MaxCases, Seed));
        }
        if (ablations.Length > 0)
            yield return Measurement($"{name}-ablations", 1,
                new(task, ComparisonKind.Ablations, Names([.. ablations, mend]), null, null, null, null, options.Editable, [1], few,
                Seed));

        EditorTrainingOptions Defaults(EditorAlgorithm algorithm) => TaskTraining.Defaults(task, algorithm);

        ReproductionStep Editor(string editor, EditorTrainingOptions given) =>
            new($"editors/{name}/{editor}", [data, model], Minutes(task, given), new EditorWork(task, reduced ? Short(given) : given));

        ReproductionStep Measurement(string measurement, double minutes, MeasurementWork work) =>
            new($"measured/{measurement}", [data, model, .. work.Trained], minutes, work);

        static IReadOnlyList<string> Names(IReadOnlyList<ReproductionStep> steps) => [.. steps.Select(step => step.Name)];
    }

    private static SmallModelOptions Model(EditTaskKind task, bool reduced)
    {
        SmallModelOptions full = task switch
        {
            EditTaskKind.Qa => TaskTraining.QaModel,
            EditTaskKind.Fc => TaskTraining.FcModel,
            _ => TaskTraining.GenModel,
        };
        if (!reduced)
            return full;
        var narrow = full is SmallBertOptions bert
            ? bert with { HiddenSize = 64, IntermediateSize = 128, NumAttentionHeads = 2, RecognitionSteps = 50 } : full;
        return narrow with { BatchSize = 16, Training = full.Training with { Steps = 50, Warmup = 5 } };
    }

    /// <summary>Two optimiser steps, and a validation after each: the second is what a stopped run goes on with.</summary>
    internal static EditorTrainingOptions Short(EditorTrainingOptions options)
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

    /// <summary>Rough, from the iterations.</summary>
    private static double Minutes(EditTaskKind task, EditorTrainingOptions options)
    {
        var seconds = (task, options.Algorithm) switch
        {
            (_, EditorAlgorithm.Malmen) => 0.013 * options.Edits,
            (_, EditorAlgorithm.Enn) => Math.Max(0.1, 0.017 * options.Edits),
            (EditTaskKind.Qa, EditorAlgorithm.Mend) => Math.Max(0.03, 0.011 * options.Edits),
            _ => 0.045,
        };
        return seconds * options.MaxIters / 60;
    }
}
