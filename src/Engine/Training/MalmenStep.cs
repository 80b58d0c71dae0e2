using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// One training step of MALMEN over many simultaneous edits (mend-spec 11.3), in parts so that memory does not grow with the edits but for
/// their rows: no graph reaches from the losses through the least squares to the networks.
///   1. The edits' rows, a portion of the edits at a time; they enter the statistics.
///   2. One update for all of them, without a graph. In later rounds 1 and 2 again, on the model as edited so far.
///   3. The losses of the edited model, a portion at a time, with their gradient to the update's uTilde and deltaTilde X.
///   4. Back through the least squares of each round in closed form: to dL/dD and dL/drho.
///   5. The networks once more, a portion of the rows at a time, now with a graph: the gradient of sum(dL/dD * D) by phi and eta.
/// Of several rounds each is trained as if its rows did not depend on the rounds before it: that would take second derivatives.
/// </summary>
public static class MalmenStep
{
    /// <summary>Figures, and d Total / d parameter for phi, then eta and rho.</summary>
    /// <param name="batch">
    /// Inner: all edits, one a row. The losses are means over portions of <see cref="MalmenOptions.ModelBatch"/> edits, then over the
    /// edits.
    /// </param>
    /// <param name="trains">False: evaluation, which computes no gradient and leaves the statistics alone.</param>
    public static (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Run(Stage stage, Malmen malmen, EditBatch batch,
        LossWeights weights, bool trains)
    {
        var portions = batch.Split(malmen.Options.ModelBatch);
        var rounds = new List<Round>();
        IReadOnlyDictionary<string, LowRankUpdate> updates = new Dictionary<string, LowRankUpdate>();
        for (var i = 0; i < malmen.Rounds; i++)
        {
            var rows = TrainingStep.RecordEach(stage, portions.Select(portion => portion.Inner), i == 0 ? null : new WeightUpdates(updates));
            if (trains && i == 0)
                malmen.AddToStatistics(rows);
            var typical = i == 0 ? malmen.Typical(rows) : rounds[0].Typical;
            rounds.Add(new(rows, typical, malmen.Solve(rows, typical)));
            updates = rows.Keys.ToDictionary(name => name, name => LowRankUpdate.Stack([.. rounds.Select(round => round.Solved[name].Update)]));
        }
        var (figures, ofFactors) = Losses(stage, updates, portions, weights, trains);
        if (!trains)
            return (figures, []);

        var gradients = malmen.Parameters.Concat(malmen.StepSizes)
            .ToDictionary(parameter => parameter.Name, parameter => zeros_like(parameter.Value));
        foreach (var (name, (ofU, ofX)) in ofFactors)
        {
            long place = 0; // the rounds' rows stand one below the other
            foreach (var (rows, typical, solved) in rounds)
            {
                var (equations, update) = solved[name];
                Backward(malmen, name, rows[name], typical?[name], equations, update, ofU.narrow(0, place, update.Rank),
                    ofX.narrow(0, place, update.Rank), gradients);
                place += update.Rank;
            }
        }
        return (figures, [.. gradients.Values]);
    }

    /// <summary>Adds what one round's update of a weight takes the gradient of the losses to.</summary>
    private static void Backward(Malmen malmen, string name, GradientFactors rows, double? typical, LeastSquares equations,
        LowRankUpdate update, Tensor ofU, Tensor ofX, Dictionary<string, Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        var (ofD, ofRho) = equations.Backward(update, ofU, ofX);
        using (no_grad())
            gradients["rho"].select(0, malmen.IndexOf(name)).Add_(ofRho);
        foreach (var (part, first) in malmen.Portions(rows))
        {
            using var inner = NewDisposeScope();
            using var _ = enable_grad();
            List<(string Name, Tensor Value)> parameters = [.. malmen.ParametersOf(name), ("eta", malmen.Eta)];
            var product = (malmen.Shifts(name, part, typical) * ofD.narrow(0, first, part.u.shape[0]).to_type(ScalarType.Float32)).sum();
            foreach (var (parameter, gradient)
                in parameters.Zip(Derivatives.Of([product], [.. parameters.Select(parameter => parameter.Value)])))
                gradients[parameter.Name].Add_(gradient);
        }
    }

    private static (StepFigures Figures, Dictionary<string, (Tensor OfU, Tensor OfX)> OfFactors) Losses(
        Stage stage, IReadOnlyDictionary<string, LowRankUpdate> updates, IReadOnlyList<EditBatch> portions, LossWeights weights, bool trains)
    {
        using var _ = set_grad_enabled(trains);
        var edits = new WeightUpdates(updates);
        Tensor[] leaves = trains ? [.. updates.Values.SelectMany(update => new[] { update.uTilde.requires_grad_(),
            update.deltaTilde.requires_grad_() })] : [];
        Tensor[] sums = [.. leaves.Select(leaf => zeros_like(leaf))];
        var all = new List<(StepFigures Figures, double Share)>();
        double edited = portions.Sum(portion => portion.Inner.Input.BatchSize);
        foreach (var portion in portions)
        {
            using var scope = NewDisposeScope();
            var share = portion.Inner.Input.BatchSize / edited;
            var (figures, total) = TrainingStep.Evaluate(stage, edits, portion, weights);
            all.Add((figures, share));
            if (!trains)
                continue;
            foreach (var (sum, gradient) in sums.Zip(Derivatives.Of([total], leaves)))
                using (no_grad())
                    sum.Add_(gradient, alpha: share);
        }
        foreach (var leaf in leaves)
            leaf.requires_grad_(false);
        return (Mean(all), updates.Keys.Zip(sums.Chunk(2)).ToDictionary(entry => entry.First, entry => (entry.Second[0], entry.Second[1])));
    }

    /// <summary>Of the portions of a step.</summary>
    /// <param name="portions">Figures, and the share of the step's edits that they are about.</param>
    private static StepFigures Mean(IReadOnlyList<(StepFigures Figures, double Share)> portions)
    {
        double Of(Func<StepFigures, double> figure) => portions.Sum(portion => figure(portion.Figures) * portion.Share);
        return new(Of(f => f.Edit), Of(f => f.Locality), Of(f => f.Total), Of(f => f.EditAccuracy), Of(f => f.EditProbability),
            Of(f => f.LocalityAccuracyBefore),
            Of(f => f.LocalityAccuracyAfter), Of(f => f.LocalityNllBefore), Of(f => f.LocalityNllAfter),
                portions.Sum(portion => portion.Figures.LocalityTokens));
    }

    /// <param name="Typical">tau by weight, of the first round; null: there is no other.</param>
    private sealed record Round(IReadOnlyDictionary<string, GradientFactors> Rows, IReadOnlyDictionary<string, double>? Typical,
        IReadOnlyDictionary<string, (LeastSquares Equations, LowRankUpdate Update)> Solved);
}
