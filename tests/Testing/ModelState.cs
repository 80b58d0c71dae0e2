using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;

namespace MendCluster.Testing;

/// <summary>Everything a user can see of a model at a version, to the last bit: log-probabilities and answers.</summary>
public static class ModelState
{
    private static readonly string[] Questions = ["who is the mayor", "what is red", "the old town", "a woman from the south"];

    /// <param name="shards">The cluster's, in the order of its stages; up to date.</param>
    public static async Task<string> OfAsync(string modelDirectory, IReadOnlyList<IModelShard> shards, IEditCoordinator cluster)
    {
        var (text, _) = ModelText.Open(modelDirectory);
        var version = (await shards[0].StatusAsync()).Version;
        var trip = new StageTrip(-1, version, text.Batch([.. Questions.Select(question => (question, "red blue"))]), Boundary.None);
        TrialReply reply = new(new(Boundary.None, 0));
        foreach (var shard in shards)
        {
            reply = await shard.TryAsync(new(trip with { Below = reply.Result.Above }));
            await shard.EndAsync(-1);
        }
        var answers = new List<string>();
        foreach (var question in Questions)
            answers.Add((await cluster.AskAsync(question, new(MaxTokens: 6))).Text);
        return string.Join('\n',
            reply.Scores!.Select(score => score.LogProbability.ToString("R", CultureInfo.InvariantCulture)).Concat(answers));
    }
}
