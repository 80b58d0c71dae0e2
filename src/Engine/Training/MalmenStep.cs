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
///   2. One update for all of them, without a graph.
///   3. The losses of the edited model, a portion at a time, with their gradient to the update's deltaTilde X.
///   4. Back through the least squares in closed form: dL/dX to dL/dD and dL/drho.
///   5. The networks once more, a portion of the rows at a time, now with a graph: the gradient of sum(dL/dD * D) by phi and eta.
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
        var rows = TrainingStep.RecordEach(stage, portions.Select(portion => portion.Inner));
        if (trains)
            malmen.AddToStatistics(rows);
        var solved = malmen.Solve(rows);
        var (figures, ofX) = Losses(stage, solved.ToDictionary(entry => entry.Key, entry => entry.Value.Update), portions, weights, trains);
        if (!trains)
            return (figures, []);

        var gradients = malmen.Parameters.Concat(malmen.StepSizes)
            .ToDictionary(parameter => parameter.Name, parameter => zeros_like(parameter.Value));
        foreach (var (name, (equations, update)) in solved)
        {
            using var scope = NewDisposeScope();
            var (ofD, ofRho) = equations.Backward(update.deltaTilde, ofX[name]);
            using (no_grad())
                gradients["rho"].select(0, malmen.IndexOf(name)).Add_(ofRho);
            foreach (var (part, first) in malmen.Portions(rows[name]))
            {
                using var inner = NewDisposeScope();
                using var _ = enable_grad();
                List<(string Name, Tensor Value)> parameters = [.. malmen.ParametersOf(name), ("eta", malmen.Eta)];
                var product = (malmen.Shifts(name, part) * ofD.narrow(0, first, part.u.shape[0]).to_type(ScalarType.Float32)).sum();
                foreach (var (parameter,
                    gradient) in parameters.Zip(Derivatives.Of([product], [.. parameters.Select(parameter => parameter.Value)])))
                    gradients[parameter.Name].Add_(gradient);
            }
        }
        return (figures, [.. gradients.Values]);
    }

    private static (StepFigures Figures, Dictionary<string, Tensor> OfX) Losses(
        Stage stage, Dictionary<string, LowRankUpdate> updates, IReadOnlyList<EditBatch> portions, LossWeights weights, bool trains)
    {
        using var _ = set_grad_enabled(trains);
        var edits = new WeightUpdates(updates);
        Tensor[] leaves = trains ? [.. updates.Values.Select(update => update.deltaTilde.requires_grad_())] : [];
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
        return (Mean(all), updates.Keys.Zip(sums).ToDictionary(entry => entry.First, entry => entry.Second));
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
}
