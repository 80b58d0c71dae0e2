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

    /// <summary>More and more edits at once: table 5.</summary>
    AtOnce,

    /// <summary>Hundreds of edits at once, more than the task has to measure on: <see cref="World.EditsAtOnce"/>.</summary>
    ManyAtOnce,

    /// <summary>MEND without one of its parts: table 6.</summary>
    Ablations,
}

/// <summary>A trained editor of a measurement.</summary>
/// <param name="Step">Its training.</param>
/// <param name="Counts">Of the measurement's, those at which it is measured; null: all.</param>
public sealed record MeasuredEditor(string Step, IReadOnlyList<int>? Counts = null);

/// <summary>Editors, measured on the task's validation edits.</summary>
/// <param name="Trained">In the table's order; those that need no training stand around them.</param>
/// <param name="FineTune">Settings of FT and FT+KL, both of which are measured; null: neither.</param>
/// <param name="BreadthFirst">Null: not measured.</param>
/// <param name="UltraEdit">Null: not measured.</param>
/// <param name="Confidence">
/// MEND is measured a second time with each edit as strong as it has to be for this, as through a cluster. Null: it is not.
/// </param>
/// <param name="Editable">Weights that the untrained change, as <see cref="EditorTrainingOptions.Editable"/>.</param>
/// <param name="Counts">Edits at once.</param>
/// <param name="MaxCases">The first so many edits are measured; of <see cref="ComparisonKind.ManyAtOnce"/> so many are made up.</param>
public sealed record MeasurementWork(EditTaskKind Task, ComparisonKind Kind, IReadOnlyList<MeasuredEditor> Trained,
    FineTuneOptions? FineTune, BreadthFirstOptions? BreadthFirst,
    UltraEditOptions? UltraEdit, double? Confidence, IReadOnlyList<string> Editable, IReadOnlyList<int> Counts, int MaxCases, ulong Seed)
        : ReproductionWork(Task);

/// <summary>Edits by MEND one after another through the ledger, as <c>mend sequence</c> makes them.</summary>
/// <param name="Probes">Facts of the training part that each edit is judged by.</param>
/// <param name="Counts">After so many edits it is measured.</param>
/// <param name="Unrelated">Questions.</param>
public sealed record SequenceWork(EditOptions Options, int Probes, IReadOnlyList<int> Counts, int Unrelated, ulong Seed)
    : ReproductionWork(EditTaskKind.Qa);

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

    /// <summary>More than any generated set has: a measurement reads them all.</summary>
    private const int MaxCases = 1000;

    private static readonly int[] AtOnce = [1, 5, 25, 75, 125], ManyAtOnce = [250, 500, 1000];

    private static readonly int[] OneAfterAnother = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

    private const int SequenceUnrelated = 150, SequenceProbes = 100;

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
        var steps = chosen.SelectMany(task => StepsOf(task, reduced));
        return new(reduced, chosen, [.. reduced ? steps.Select(step => step with { Minutes = 0.05 }) : steps]);
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
        ReproductionStep[] batched = task == EditTaskKind.Qa ? [Editor("malmen", Defaults(EditorAlgorithm.Malmen))] : [];
        ReproductionStep[] ablations = task == EditTaskKind.Fc ? [] // as in the paper
            : [.. Ablations.Select(ablation => Editor("mend-" + ablation.Name, options with { Mend = ablation.Of(options.Mend) }))];
        foreach (var editor in new[] { mend, ke, enn }.Concat(batched).Concat(ablations))
            yield return editor;

        var few = reduced ? 4 : MaxCases;
        // Of one claim the last block has one row of gradient, and UltraEdit normalises by the spread of what it has seen.
        var ultraEdit = task == EditTaskKind.Fc ? null : DemoRecipe.UltraEdit;
        yield return Measurement(name, 2,
            new(task, ComparisonKind.SideBySide, Everywhere([enn, ke, mend, .. batched]), TaskTraining.FineTune(task),
            DemoRecipe.BreadthFirst, ultraEdit, new EditOptions().Confidence, options.Editable, [1], few, Seed));
        if (task == EditTaskKind.Qa)
            foreach (var step in Many())
                yield return step;
        if (ablations.Length > 0)
            yield return Measurement($"{name}-ablations", 1,
                new(task, ComparisonKind.Ablations, Everywhere([.. ablations, mend]), null, null, null, null, options.Editable, [1], few,
                Seed));

        IEnumerable<ReproductionStep> Many()
        {
            // As in the paper's table 5, these two are trained anew for each number of edits.
            var (enns, mends) = (Anew("enn", enn, ennOptions), Anew("mend", mend, options));
            foreach (var (_, editor) in enns.Concat(mends).Where(anew => anew.Edits > 1))
                yield return editor;

            MeasurementWork atOnce =
                new(task, ComparisonKind.AtOnce, [.. At(enns), .. At(mends), .. Everywhere(batched)], null, DemoRecipe.BreadthFirst,
                ultraEdit, null,
                options.Editable, AtOnce, reduced ? AtOnce[^1] : MaxCases, Seed);
            yield return Measurement($"{name}-at-once", 2, atOnce);
            yield return Measurement($"{name}-many-at-once", 5, atOnce with
            {
                Kind = ComparisonKind.ManyAtOnce,
                Trained = Everywhere([enns[^1].Step, mends[^1].Step, .. batched]),
                Counts = reduced ? [2, 4] : ManyAtOnce,
                MaxCases = reduced ? 4 : ManyAtOnce[^1],
            });
            SequenceWork sequence = new(new EditOptions { RequireSuccess = true }, 0, reduced ? [1, 2] : OneAfterAnother, reduced ? 4 : SequenceUnrelated, Seed);
            yield return Sequence($"{name}-sequence", sequence);
            yield return Sequence($"{name}-sequence-gated",
                sequence with { Options = sequence.Options with { MaxDrawdown = 0 }, Probes = reduced ? 4 : SequenceProbes });
        }

        IReadOnlyList<(int Edits, ReproductionStep Step)> Anew(string editor, ReproductionStep one, EditorTrainingOptions given) =>
            [.. AtOnce.Select(edits => (edits, edits == 1 ? one : Editor($"{editor}-{edits}", TaskTraining.AtOnce(given, edits))))];

        static IEnumerable<MeasuredEditor> At(IEnumerable<(int Edits, ReproductionStep Step)> editors) =>
            editors.Select(editor => new MeasuredEditor(editor.Step.Name, [editor.Edits]));

        EditorTrainingOptions Defaults(EditorAlgorithm algorithm) => TaskTraining.Defaults(task, algorithm);

        ReproductionStep Editor(string editor, EditorTrainingOptions given) =>
            new($"editors/{name}/{editor}", [data, model], Minutes(task, given), new EditorWork(task, reduced ? Short(given) : given));

        ReproductionStep Measurement(string measurement, double minutes, MeasurementWork work) =>
            new($"measured/{measurement}", [data, model, .. work.Trained.Select(trained => trained.Step)], minutes, work);

        ReproductionStep Sequence(string sequence, SequenceWork work) => new($"measured/{sequence}", [data, model, mend.Name], 20, work);

        static IReadOnlyList<MeasuredEditor> Everywhere(IReadOnlyList<ReproductionStep> steps) =>
            [.. steps.Select(step => new MeasuredEditor(step.Name))];
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
