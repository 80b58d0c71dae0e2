using System.Text;
using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

/// <summary>MALMEN and UltraEdit, which share their least squares.</summary>
public sealed class MalmenTests : IDisposable
{
    private static readonly EditableWeight[] Weights = [new("a", 6, 4), new("b", 6, 4), new("c", 3, 4)];
    private readonly IDisposable _scope = NewDisposeScope();
    private readonly Generator _generator = new(5);
    private readonly List<Dictionary<string, GradientFactors>> _drawn = [];

    public void Dispose()
    {
        _generator.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void OneRowAndAlmostNoRidge_TakesFromItsKeyWhatMendsUpdateOfThatRowWould()
    {
        using var malmen = new Malmen(new() { Rank = 3, EditLr = 0.1, Lambda = 1e-9 }, Weights, 1);
        malmen.AddToStatistics(Rows(9));
        var rows = Rows(1)["b"];
        // A network that was never trained is the identity: kTilde and vTilde are the normalised row.
        var (k, v) = Normalised(_drawn[0], "b", rows);
        var expected = rows.u.mm(k.t()).Times(0.1) * v;
        Close(expected, malmen.Propose(new Dictionary<string, GradientFactors> { ["b"] = rows })["b"].Of(rows.u));
    }

    [Fact]
    public void AnEditTwice_IsNotTwiceTheEdit()
    {
        foreach (var editor in Editors(lambda: 1e-6))
        {
            var rows = Rows(2);
            var once = editor.Propose(rows)["a"].Of(rows["a"].u);
            var twice = editor.Propose(rows.ToDictionary(row => row.Key,
                row => new GradientFactors(cat([row.Value.u, row.Value.u], 0), cat([row.Value.delta, row.Value.delta], 0))))["a"];
            Close(once, twice.Of(rows["a"].u), 1e-3);
            editor.Dispose();
        }
    }

    [Fact]
    public void UltraEdit_TakesTheSquaredNormalisedKeyTimesTheNormalisedGradient()
    {
        using var editor = new UltraEdit(new() { EditLr = 0.1, Lambda = 1e-9 }, Weights);
        editor.AddToStatistics(Rows(9));
        var rows = Rows(2)["b"];
        var (k, v) = Normalised(_drawn[0], "b", rows, shared: false);
        Close(((k * k).sum([1], keepdim: true) * v).Times(0.1),
            editor.Propose(new Dictionary<string, GradientFactors> { ["b"] = rows })["b"].Of(rows.u));
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void ARowThatIsNotFinite_IsRefusedByTheNameOfItsWeight(double value)
    {
        foreach (var editor in Editors())
        {
            var rows = Rows(3);
            rows["c"] = rows["c"] with { delta = rows["c"].delta.Plus(value) };
            Assert.Contains("'c'", Refusal.Of(MendError.NotFinite, () => editor.Propose(rows)).What, StringComparison.Ordinal);
            editor.Dispose();
        }
    }

    [Fact]
    public void AnEditorThatSawNothing_AndAWeightThatIsNotItsOwn_AreRefused()
    {
        using var malmen = new Malmen(new() { Rank = 3 }, Weights, 1);
        Assert.Contains("train the editor", Refusal.Of(MendError.ModelUnusable, () => malmen.Propose(Rows(3))).What,
            StringComparison.Ordinal);
        Assert.Contains("'d'", Refusal.Of(MendError.ModelUnusable, () =>
            malmen.Propose(new Dictionary<string, GradientFactors> { ["d"] = Rows(1)["a"] })).What, StringComparison.Ordinal);
    }

    [Fact]
    public void PortionsOfTheRows_DoNotChangeTheUpdate()
    {
        var rows = Rows(9);
        var updates = new[] { 1024, 2 }.Select(portion =>
        {
            using var malmen = new Malmen(new() { Rank = 3, EditLr = 0.1, EditorBatch = portion }, Weights, 1);
            malmen.AddToStatistics(rows);
            return malmen.Propose(rows)["a"].ToDense();
        }).ToList();
        Close(updates[0], updates[1]);
    }

    [Fact]
    public void AFile_KeepsTheEditorWithItsAlgorithm()
    {
        using var folder = new TemporaryFolder();
        foreach (var editor in Editors())
        {
            var rows = Rows(4);
            EditorCheckpoint.SaveEditor(folder["editor"], editor);
            using var read = EditorCheckpoint.Load(folder["editor"]);
            Assert.Equal(editor.GetType(), read.GetType());
            Assert.Equal(editor.Weights, read.Weights);
            foreach (var (name, update) in editor.Propose(rows))
                Close(update.ToDense(), read.Propose(rows)[name].ToDense(), 0);
            using var some = EditorCheckpoint.Load(folder["editor"], ["c"]);
            Close(editor.Propose(rows)["c"].ToDense(),
                some.Propose(new Dictionary<string, GradientFactors> { ["c"] = rows["c"] })["c"].ToDense(), 0);
            Assert.Contains("expected Mend",
                Refusal.Of(MendError.ModelUnusable, () => EditorCheckpoint.LoadEditor(folder["editor"])).What, StringComparison.Ordinal);
            editor.Dispose();
        }
    }

    [Fact]
    public void AFile_KeepsThePreservedKeysAndTheRounds_AndOneOfBeforeThereWereAnyStillLoads()
    {
        using var folder = new TemporaryFolder();
        var rows = Rows(9);
        var keys = Weights.ToDictionary(weight => weight.Name, weight =>
        {
            using var sketch = new KeySketch();
            sketch.Add(randn([2, weight.InFeatures], generator: _generator));
            return sketch.Keys();
        });
        using var malmen = new Malmen(new() { Rank = 3, EditLr = 0.1, Rounds = 3, Beta = 2 }, Weights, 1, preserved: keys);
        using var plain = new Malmen(new() { Rank = 3, EditLr = 0.1 }, Weights, 1);
        malmen.AddToStatistics(rows);
        plain.AddToStatistics(rows);
        EditorCheckpoint.SaveEditor(folder["new"], malmen);
        using var read = Assert.IsType<Malmen>(EditorCheckpoint.Load(folder["new"]), exactMatch: false);
        Assert.Equal((3, true, 2.0), (read.Rounds, read.Preserves, read.Options.Beta));
        Close(malmen.Propose(rows)["a"].ToDense(), read.Propose(rows)["a"].ToDense(), 0);
        Assert.NotEqual(plain.Propose(rows)["a"].ToDense().norm().item<float>(), read.Propose(rows)["a"].ToDense().norm().item<float>(), 3);
        using var some = (Malmen)EditorCheckpoint.Load(folder["new"], ["c"]);
        Close(malmen.Propose(rows)["c"].ToDense(),
            some.Propose(new Dictionary<string, GradientFactors> { ["c"] = rows["c"] })["c"].ToDense(), 0);

        // As a file was before: settings without rounds and beta, no preserved keys.
        EditorCheckpoint.SaveEditor(folder["plain"], plain);
        var bytes = File.ReadAllBytes(folder["plain"]);
        var header = (int)BitConverter.ToInt64(bytes);
        var text = Encoding.UTF8.GetString(bytes, 8, header);
        const string added = """,\"Rounds\":1,\"Beta\":1""";
        Assert.Contains(added, text, StringComparison.Ordinal);
        text = text.Replace(added, "", StringComparison.Ordinal).PadRight(header);
        File.WriteAllBytes(folder["old"], [.. bytes[..8], .. Encoding.UTF8.GetBytes(text), .. bytes[(8 + header)..]]);
        using var old = (Malmen)EditorCheckpoint.Load(folder["old"]);
        Assert.Equal((1, false), (old.Rounds, old.Preserves));
        Close(plain.Propose(rows)["a"].ToDense(), old.Propose(rows)["a"].ToDense(), 0);
    }

    [Fact]
    public void PreservedKeysOfAnotherShape_AreRefusedByTheWeightsName() =>
        Assert.Contains("'b'", Refusal.Of(MendError.ModelUnusable, () => new Malmen(new() { Rank = 3 }, Weights, 1,
            preserved: new Dictionary<string, PreservedKeys> { ["b"] = new(ones(2, 99), ones(2)) })).What, StringComparison.Ordinal);

    [Theory]
    [InlineData(0, 1.0)]
    [InlineData(1, -1.0)]
    [InlineData(1, double.NaN)]
    public void RoundsAndBetaThatMakeNoSense_AreRefused(int rounds, double beta) =>
        Refusal.Of(MendError.InvalidOption, () => new Malmen(new() { Rounds = rounds, Beta = beta }, Weights, 1));

    [Theory]
    [InlineData(0, 1e-3, 1)]
    [InlineData(3, 0, 1)]
    [InlineData(3, 1e-3, 0)]
    public void SettingsThatMakeNoSense_AreRefused(int rank, double editLr, double lambda) =>
        Refusal.Of(MendError.InvalidOption, () => new Malmen(new() { Rank = rank, EditLr = editLr, Lambda = lambda }, Weights, 1));

    private List<IPreparedEditor> Editors(double lambda = 1)
    {
        var malmen = new Malmen(new() { Rank = 3, EditLr = 0.1, Lambda = lambda }, Weights, 1);
        var ultraEdit = new UltraEdit(new() { EditLr = 0.1, Lambda = lambda }, Weights);
        var rows = Rows(9);
        malmen.AddToStatistics(rows);
        ultraEdit.AddToStatistics(rows);
        return [malmen, ultraEdit];
    }

    private Dictionary<string, GradientFactors> Rows(int count)
    {
        _drawn.Add(Weights.ToDictionary(weight => weight.Name, weight =>
            new GradientFactors(randn([count, weight.InFeatures], generator: _generator).Plus(1),
            randn([count, weight.OutFeatures], generator: _generator).Times(0.01))));
        return _drawn[^1];
    }

    /// <summary>
    /// The plain formula: less the mean, over the unbiased standard deviation; of all weights of the shape, or of the weight's own.
    /// </summary>
    private static (Tensor k, Tensor v) Normalised(Dictionary<string, GradientFactors> past, string weight, GradientFactors rows,
        bool shared = true)
    {
        string[] seen = shared ? ["a", "b"] : [weight];
        Tensor Of(Func<GradientFactors, Tensor> side)
        {
            var all = cat([.. seen.Select(name => side(past[name]))], 0);
            var difference = all - all.mean([0]);
            return (side(rows) - all.mean([0])) / (difference * difference).sum([0]).Over(all.shape[0] - 1).sqrt();
        }
        return (Of(row => row.u), Of(row => row.delta));
    }

    private static void Close(Tensor expected, Tensor actual, double relative = 1e-4)
    {
        Assert.Equal(expected.shape, actual.shape);
        var difference = (expected - actual).norm().item<float>();
        Assert.True(difference <= relative * expected.norm().item<float>(),
            $"differs by {difference} from a norm of {expected.norm().item<float>()}");
    }
}
