using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>Passes of a fit begin with what an earlier pass left below its layer.</summary>
public class FitPassTests
{
    /// <summary>Examples of one pass come back among others, padded otherwise.</summary>
    [Theory]
    [InlineData("gpt2", 1)]
    [InlineData("gptj", 3)]
    [InlineData("t5", 1)]
    [InlineData("t5", 3)]
    [InlineData("bart", 2)]
    public async Task InWhateverBatches_TheyAreThoseOfTheWholeModel(string family, int stages)
    {
        const long Session = 1;
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync(stages);
        var edit = await cluster.EditAsync("who is the mayor", "a woman");
        await using var fit = await FitOfTinyModel.OpenAsync(model);
        await fit.BeginAsync(Session, edit.Version, [edit.Id]); // as nothing
        (string Prompt, string Target)[] examples = [("who is the mayor", "a woman"), ("red", "the south of the old town"), ("what is red", "blue"),
            ("the old town is the red town of the south", "a")];

        await fit.Passes.TryFitAsync(Trip(0, 1), [0, 1], areKnown: false, isReference: false, default);
        await fit.Passes.TryFitAsync(Trip(2), [2], areKnown: false, isReference: false, default);
        await fit.Passes.TryFitAsync(Trip(1, 3), [1, 3], areKnown: false, isReference: false, default);
        foreach (var batch in new[] { new[] { 2, 0 }, [3, 1, 2], [0], [1, 0, 3] })
        {
            var whole = await fit.Passes.ScoreAsync(Trip(batch), default);
            var fromKept = await fit.Passes.ForwardFitAsync(Trip(batch), batch, null, default);
            Assert.All(whole.Zip(fromKept), score => Assert.Equal(score.First.LogProbability, score.Second.LogProbability, 1e-4));
        }
        var lost = await Assert.ThrowsAsync<MendException>(() => fit.Passes.ForwardFitAsync(Trip(0, 1), [0, 4], null, default));
        Assert.Equal(MendError.ShardLost, lost.Error);

        StageTrip Trip(params int[] which) => fit.Trip(Session, edit.Version, which.Select(i => examples[i]));
    }
}
