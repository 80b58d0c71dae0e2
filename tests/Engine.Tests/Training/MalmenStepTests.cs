using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

/// <summary>MALMEN's step in parts, against autograd through all of it at once.</summary>
public sealed class MalmenStepTests : IDisposable
{
    private static readonly string[] Words = ["red", "blue", "green", "old", "new", "grey"];
    private readonly IDisposable _scope = NewDisposeScope();
    private readonly Stage _stage = TinyModel.Load("t5");

    public void Dispose()
    {
        _stage.Dispose();
        _scope.Dispose();
    }

    [Theory]
    [InlineData(1)] // fewer rows than in-features: the dual
    [InlineData(6)] // more: the primal
    public void TheGradients_AreThoseOfAutogradThroughEverything(int edits)
    {
        var batch = Batch(edits);
        using var malmen = Editor();
        var (figures, gradients) = MalmenStep.Run(_stage, malmen, batch, new LossWeights(), trains: true);

        // The same by the plain formulas, after the step: the statistics have its rows in them, as they had when it normalised.
        var rows = TrainingStep.RecordEach(_stage, [batch.Inner]);
        Assert.Equal(edits == 1, rows.All(entry => entry.Value.u.shape[0] <= entry.Value.u.shape[1]));
        Assert.Contains(rows, entry => edits == 1 || entry.Value.u.shape[0] > entry.Value.u.shape[1]);
        var updates = rows.ToDictionary(entry => entry.Key, entry =>
        {
            var K = entry.Value.u.to_type(ScalarType.Float64);
            var one = eye(K.shape[1], dtype: ScalarType.Float64);
            var L = linalg.cholesky(K.t().mm(K).Plus(one * malmen.Rho.select(0, malmen.IndexOf(entry.Key)).exp()));
            var S = K.t().mm(malmen.Shifts(entry.Key, entry.Value).to_type(ScalarType.Float64)).cholesky_solve(L); // [m, n]
            return new LowRankUpdate(one.to_type(ScalarType.Float32), S.to_type(ScalarType.Float32), tensor(1f));
        });
        var (_, total) = TrainingStep.Evaluate(_stage, new WeightUpdates(updates), batch, new LossWeights());
        Assert.Equal(total.item<float>(), figures.Total, 4);
        List<(string Name, Tensor Value)> parameters = [.. malmen.Parameters, .. malmen.StepSizes];
        foreach (var ((name, _),
            (expected, actual)) in parameters.Zip(Derivatives.Of([total], [.. parameters.Select(p => p.Value)]).Zip(gradients)))
        {
            var error = (expected - actual).norm().item<float>() / expected.norm().item<float>();
            // of a float32 model; rho's terms nearly cancel. The solve itself is tested in LeastSquaresTests
            var most = name == "rho" ? 1e-3 : 2e-4;
            Assert.True(error < most, $"{name}: {error}, norm {expected.norm().item<float>()}");
        }
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(6, 1)]
    [InlineData(1, 3)]
    [InlineData(6, 3)]
    public void WithRoundsAndPreservedKeys_TheGradientsAreThoseOfAutograd_WithTheRowsOfEachRoundGiven(int edits, int count)
    {
        var batch = Batch(edits);
        var keys = TrainingStep.KeysOf(_stage, [Batch(5).Locality]);
        // steps so small that the rounding of a round's rows does not grow in the next
        using var malmen = Editor(new() { Rank = 5, EditLr = 2e-3, EditorBatch = 7, Rounds = count, Beta = 0.5 }, keys);
        var (figures, gradients) = MalmenStep.Run(_stage, malmen, batch, new LossWeights(), trains: true);

        IReadOnlyDictionary<string, GradientFactors>? first = null;
        List<(IReadOnlyDictionary<string, GradientFactors> Rows, IReadOnlyDictionary<string, double>? Typical)> rounds = [];
        WeightUpdates? soFar = null;
        for (var round = 0; round < count; round++)
        {
            var rows = TrainingStep.RecordEach(_stage, [batch.Inner], soFar);
            first ??= rows;
            rounds.Add((rows, count == 1 ? null : first.ToDictionary(entry => entry.Key, entry => entry.Value.TypicalGradient())));
            using var _ = no_grad();
            soFar = new(AllRounds());
        }
        var (_, total) = TrainingStep.Evaluate(_stage, new WeightUpdates(AllRounds()), batch, new LossWeights());
        Assert.Equal(total.item<float>(), figures.Total, 1e-4);
        List<(string Name, Tensor Value)> parameters = [.. malmen.Parameters, .. malmen.StepSizes];
        foreach (var ((name, _),
            (expected, actual)) in parameters.Zip(Derivatives.Of([total], [.. parameters.Select(p => p.Value)]).Zip(gradients)))
        {
            var error = (expected - actual).norm().item<float>() / expected.norm().item<float>();
            // in later rounds rounding puts a unit of the network on the other side of its kink now and then
            Assert.True(error < (count > 1 ? 5e-2 : 1e-3), $"{name}: {error}, norm {expected.norm().item<float>()}");
        }

        // The plain formulas, of all rounds so far.
        Dictionary<string, LowRankUpdate> AllRounds() => _stage.EditableOrder.ToDictionary(name => name, name =>
            LowRankUpdate.Stack([.. rounds.Select(round =>
            {
                var K = round.Rows[name].u.to_type(ScalarType.Float64);
                var one = eye(K.shape[1], dtype: ScalarType.Float64);
                var (Q, values) = (keys[name].Q.to_type(ScalarType.Float64), keys[name].Values.to_type(ScalarType.Float64));
                var L = linalg.cholesky(K.t().mm(K).Plus(one * malmen.Rho.select(0, malmen.IndexOf(name)).exp())
                    .Plus((Q.t() * values).mm(Q).Times(0.5 * K.shape[0])));
                var D = malmen.Shifts(name, round.Rows[name], round.Typical?[name]).to_type(ScalarType.Float64);
                return new LowRankUpdate(one.to_type(ScalarType.Float32), K.t().mm(D).cholesky_solve(L).to_type(ScalarType.Float32), tensor(1f));
            })]));
    }

    [Fact]
    public void MoreRounds_BringTheEditsCloser()
    {
        List<LabelledInput> edits = [Batch(6).Inner];
        double Loss(int rounds)
        {
            using var malmen = Editor(new() { Rank = 5, EditLr = 3, EditorBatch = 7, Rounds = rounds });
            return TrainingStep.Score(_stage, edits[0], new(TrainingStep.Propose(_stage, malmen, edits))).Loss;
        }
        Assert.True(Loss(3) < Loss(1), $"{Loss(1)} to {Loss(3)}");
    }

    /// <summary>With steps that are too large one round undoes what those before did; it is left out then.</summary>
    [Fact]
    public void ARoundThatDoesHarm_IsLeftOut()
    {
        List<LabelledInput> edits = [Batch(6).Inner];
        var harmless = 0;
        foreach (var editLr in new[] { 3.0, 30, 300, 3000 })
        {
            var losses = Enumerable.Range(2, 4).Select(rounds => // of one, nothing fades
            {
                using var malmen = Editor(new() { Rank = 5, EditLr = editLr, EditorBatch = 7, Rounds = rounds });
                return TrainingStep.Score(_stage, edits[0], new(TrainingStep.Propose(_stage, malmen, edits))).Loss;
            }).ToList();
            Assert.All(losses.Zip(losses.Skip(1)), pair => Assert.True(pair.Second <= pair.First * (1 + 1e-6), $"{editLr}: {string.Join(' ', losses)}"));
            harmless += losses.Zip(losses.Skip(1)).Count(pair => pair.Second == pair.First);
        }
        Assert.True(harmless > 0, "no round would have done harm");
    }

    [Fact]
    public void Portions_DoNotChangeTheRows()
    {
        var batch = Batch(6);
        var whole = TrainingStep.RecordEach(_stage, [batch.Inner]);
        var parts = TrainingStep.RecordEach(_stage, batch.Split(2).Select(portion => portion.Inner));
        foreach (var (name, rows) in whole)
            Assert.True((rows.delta - parts[name].delta).norm().item<float>() < 1e-4 * rows.delta.norm().item<float>(), name);
    }

    private Malmen Editor(MalmenOptions? options = null, IReadOnlyDictionary<string, PreservedKeys>? preserved = null)
    {
        var malmen = new Malmen(options ?? new() { Rank = 5, EditLr = 0.05, EditorBatch = 7 }, EditorTraining.EditableWeights(_stage), 3,
            preserved: preserved);
        using var generator = new Generator(4);
        using var _ = no_grad();
        malmen.AddToStatistics(TrainingStep.RecordEach(_stage, [Batch(5).Inner]));
        foreach (var (_, value) in malmen.Parameters) // away from the identity, where U has no effect on V
            value.Add_(randn(value.shape, generator: generator), alpha: 0.05);
        malmen.Rho.Add_(0.3);
        return malmen;
    }

    private EditBatch Batch(int edits)
    {
        var text = TinyModel.Text(_stage);
        var all = Enumerable.Range(0, edits).ToList();
        return new(
            text.Of([.. all.Select(i => ($"is {Words[i % 6]} {i}", Words[(i + 1) % 6]))]),
            text.Of([.. all.Select(i => ($"it is {Words[i % 6]} {i}", Words[(i + 1) % 6]))]),
            text.Of([.. all.Select(i => ($"how {Words[(i + 2) % 6]}", Words[(i + 3) % 6]))]));
    }
}
