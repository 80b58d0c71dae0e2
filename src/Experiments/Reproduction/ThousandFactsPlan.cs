using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;

namespace MendCluster.Experiments;

/// <summary>A small T5 that knows a large world.</summary>
/// <param name="World">Its seed.</param>
public sealed record FactsModelWork(ulong World, WorldSize Size, SmallT5Options Model) : ReproductionWork(EditTaskKind.Qa);

/// <summary>An editor for it.</summary>
/// <param name="Preserves">It goes round the keys of <see cref="ThousandFacts.Known"/>.</param>
public sealed record FactsEditorWork(ulong World, WorldSize Size, EditorTrainingOptions Options, bool Preserves)
    : ReproductionWork(EditTaskKind.Qa);

/// <summary>An editor as it is measured: a trained one, or one of the two that need no training.</summary>
/// <param name="Line">Of the picture: editors of one line differ in one setting.</param>
/// <param name="Counts">Edits at once.</param>
/// <param name="Trained">Step of its training.</param>
/// <param name="Beta">Weight of the preserved keys, where it is another than that of the training.</param>
public sealed record FactsEditor(string Line, IReadOnlyList<int> Counts, string? Trained = null, double? Beta = null,
    BreadthFirstOptions? BreadthFirst = null, UltraEditOptions? UltraEdit = null);

/// <summary>Editors, measured on <see cref="ThousandFacts.Edits"/>, many at once.</summary>
/// <param name="MaxCases">Of all counts but those that need more.</param>
/// <param name="MadeUp">It is measured on <see cref="ThousandFacts.MadeUp"/> in their place.</param>
public sealed record FactsMeasurementWork(ulong World, WorldSize Size, IReadOnlyList<FactsEditor> Editors, int MaxCases,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool MadeUp = false)
    : ReproductionWork(EditTaskKind.Qa);

/// <summary>The same edits one after another through a cluster.</summary>
/// <param name="ConsolidateEvery">Edits; 0: never.</param>
/// <param name="ConsolidationTime">Of each, at most.</param>
/// <param name="Replays">Consolidations replay the training facts that are not among the probes; rewordings are learned from these.</param>
/// <param name="Routes">The edits are routed, by a router that is trained on the training facts.</param>
/// <param name="Beta">
/// The editor is a MALMEN, whose edits go round the training facts, which count so much, and round the edits before; null: it is used as it is.
/// </param>
public sealed record FactsSequenceWork(ulong World, WorldSize Size, EditOptions Options, int Probes, IReadOnlyList<int> Counts,
    int ConsolidateEvery, TimeSpan ConsolidationTime, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool Replays = false,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool Routes = false,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] double? Beta = null)
    : ReproductionWork(EditTaskKind.Qa);

/// <summary>
/// A thousand facts of a model that knows four thousand, edited at once and one after another: several worlds, each with a model and editors
/// of its own, so that the figures say how another training would have come out.
/// </summary>
public static class ThousandFactsPlan
{
    /// <summary>Edits that UltraEdit makes at once, about as published.</summary>
    public const int UltraEditTurn = 100;

    private static readonly int[] AtOnce = [1, 25, 125, 250, 1000], Curve = [125, 1000], OneAfterAnother = [1, 10, 25, 50, 100, 250, 500, 1000];

    /// <summary>The first is measured at every count, the others for the curve.</summary>
    private static readonly double[] Replay = [5, 2, 10], Beta = [0.25, 4, 16];

    /// <summary>Settings of edits that go round those before: most that one may cost, and the weight of the preserved keys.</summary>
    private const double MaxDrawdownOfASequentialEdit = 0.02, SequentialBeta = 4;

    public static SmallT5Options Model { get; } = new()
    {
        Vocabulary = 4096,
        DModel = 192,
        DFf = 1536,
        NumHeads = 6,
        StepsByLength = 16,
        BeginRows = 6400, // a fifth of the facts; with all of them from the start nothing was known after 2500 steps
        BeginSteps = 800,
        Training = new() { Steps = 4800, Lr = 3e-3, Warmup = 200 },
        Goal = 0.99,
    };

    public static EditorTrainingOptions Mend { get; } = TaskTraining.Defaults(null, EditorAlgorithm.Mend);

    public static EditorTrainingOptions Malmen { get; } = TaskTraining.Defaults(null, EditorAlgorithm.Malmen) with
    {
        MaxIters = 150, // of 120 on the world of seed 2 the 36th nearly had the best loss of validation; drawdown went on falling
        ValInterval = 15,
        EarlyStopPatience = 150,
    };

    public static BreadthFirstOptions BreadthFirst { get; } = DemoRecipe.BreadthFirst;

    public static UltraEditOptions UltraEdit { get; } = DemoRecipe.UltraEdit;

    /// <param name="world">Seed.</param>
    public static IEnumerable<ReproductionStep> Of(ulong world, bool reduced)
    {
        var (size, folder) = (reduced ? WorldSize.Small : WorldSize.Large, $"facts-{world}");
        var model = new ReproductionStep($"models/{folder}", [], 20, new FactsModelWork(world, size, (reduced ? Short(Model) : Model) with { Seed = world }));
        yield return model;

        var mend = Editor("mend", Mend, preserves: false, 20);
        var plain = Editor("malmen", Malmen, preserves: false, 10);
        var rounds = Editor("malmen-rounds", Malmen with { Malmen = Malmen.Malmen with { Rounds = 3 } }, preserves: true, 30);
        yield return mend;
        yield return plain;
        yield return rounds;

        var (atOnce, curve) = reduced ? ([1, 4], [4]) : (AtOnce, Curve);
        List<FactsEditor> editors =
        [
            new("FT, breadth-first", atOnce, BreadthFirst: BreadthFirst),
            .. Replay.Select(weight => new FactsEditor("FT, breadth-first", weight == Replay[0] ? atOnce : curve,
                BreadthFirst: BreadthFirst with { Replay = weight })),
            new("MEND", [.. atOnce.Take(3)], mend.Name),
            new("MALMEN", atOnce, plain.Name),
            new("MALMEN, 3 rounds, preserved keys", atOnce, rounds.Name),
            .. Beta.Select(beta => new FactsEditor("MALMEN, 3 rounds, preserved keys", curve, rounds.Name, beta)),
            new("UltraEdit", atOnce, UltraEdit: UltraEdit),
        ];
        yield return new($"measured/{folder}-at-once", [model.Name, mend.Name, plain.Name, rounds.Name], 40,
            new FactsMeasurementWork(world, size, editors, reduced ? 4 : 300));

        int[] ofMadeUp = reduced ? [1] : [1, 125];
        yield return new($"measured/{folder}-made-up", [model.Name, mend.Name, rounds.Name], 10, new FactsMeasurementWork(world, size,
        [
            new("FT, breadth-first", ofMadeUp, BreadthFirst: BreadthFirst with { Replay = Replay[0] }),
            new("MEND", [1], mend.Name),
            new("MALMEN, 3 rounds, preserved keys", ofMadeUp, rounds.Name),
        ], reduced ? 4 : 250, MadeUp: true));

        var sequence = new FactsSequenceWork(world, size, new EditOptions { RequireSuccess = true }, reduced ? 4 : 100,
            reduced ? [1, 2] : OneAfterAnother, 0, TimeSpan.FromSeconds(reduced ? 1 : 60));
        yield return new($"measured/{folder}-sequence", [model.Name, mend.Name], 20, sequence with { Counts = reduced ? [1, 2] : [1, 10, 25, 50, 100] });
        yield return new($"measured/{folder}-consolidated", [model.Name, mend.Name], 30,
            sequence with { ConsolidateEvery = reduced ? 1 : 25, Replays = true });
        yield return new($"measured/{folder}-routed", [model.Name, mend.Name], 30, sequence with { Replays = true, Routes = true });
        yield return new($"measured/{folder}-sequential", [model.Name, rounds.Name], 60,
            sequence with { Options = sequence.Options with { MaxDrawdown = MaxDrawdownOfASequentialEdit }, Beta = SequentialBeta });

        ReproductionStep Editor(string name, EditorTrainingOptions options, bool preserves, double minutes) => new($"editors/{folder}/{name}",
            [model.Name], minutes,
            new FactsEditorWork(world, size, (reduced ? ReproductionPlan.Short(options) : options) with { Seed = (long)world }, preserves));
    }

    private static SmallT5Options Short(SmallT5Options model) =>
        model with { DModel = 64, DFf = 128, NumHeads = 2, BatchSize = 16, BeginSteps = 16, Training = model.Training with { Steps = 50, Warmup = 5 } };
}
