using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Training;

/// <summary>A shard's side of a round's sums, with neighbours that are there, and with one that is not.</summary>
public class RingReductionTests
{
    private static readonly ShardPlace[] Places = [new(0, 0), new(1, 0), new(2, 0)];

    private static readonly Ring Everybodys = new("alpha", Places), OfTwo = new("768x3072", [Places[2], Places[0]]);

    private readonly Dictionary<ShardPlace, Round> _rounds = Places.ToDictionary(place => place,
        _ => new Round(new(7, RoundKind.Step, 3)));

    [Fact]
    public async Task EveryOwner_HasTheSum_AndItsNorm()
    {
        foreach (var (i, place) in Places.Index())
            _rounds[place].Sums["alpha"] = [1 + i, -2 * i, 0.5f];
        (_rounds[Places[0]].Sums[OfTwo.Group], _rounds[Places[2]].Sums[OfTwo.Group]) = ([1, 2, 3, 4], [10, 20, 30, 40]);
        var replies = await Task.WhenAll(Places.Select(place => Reduction(place).RunAsync(
            place == Places[1] ? [Everybodys] : [Everybodys, OfTwo], CancellationToken.None)));
        Assert.All(Places, place => Assert.Equal([6, -6, 1.5f], _rounds[place].Sums["alpha"]));
        Assert.All(OfTwo.Owners, place => Assert.Equal([11, 22, 33, 44], _rounds[place].Sums[OfTwo.Group]));
        GradientNorm[] norms = [new("alpha", 36 + 36 + 2.25), new(OfTwo.Group, 121 + 484 + 1089 + 1936)];
        Assert.Equal(norms, replies[0].Norms);
        Assert.Equal(norms[..1], replies[1].Norms);
        Assert.Equal(norms, replies[2].Norms);
        Assert.All(replies, reply => Assert.Null(reply.Lost));
    }

    [Fact]
    public async Task AGradientThatIsNotThere_IsALostShard()
    {
        var e = await Assert.ThrowsAsync<MendException>(() => Reduction(Places[1]).RunAsync([Everybodys], CancellationToken.None));
        Assert.Equal(MendError.ShardLost, e.Error);
        Assert.Contains("does not have the gradient of alpha", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ANeighbourThatCannotBeReached_IsNamed()
    {
        _rounds[Places[0]].Sums["alpha"] = [1, 2, 3];
        var reply = await Reduction(Places[0], lost: new IOException("its line is cut")).RunAsync([Everybodys], CancellationToken.None);
        Assert.Equal((Places[1], "its line is cut"), (reply.Lost, reply.Why));
        Assert.Empty(reply.Norms);
        // a time-out of the neighbour's own is no cancellation of the round
        reply = await Reduction(Places[0], lost: new OperationCanceledException("late")).RunAsync([Everybodys], CancellationToken.None);
        Assert.Equal((Places[1], "late"), (reply.Lost, reply.Why));
    }

    [Fact]
    public async Task ARoundThatIsCancelled_NamesNobody()
    {
        _rounds[Places[0]].Sums["alpha"] = [1, 2, 3];
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Reduction(Places[0],
            lost: new OperationCanceledException(cancelled.Token)).RunAsync([Everybodys], cancelled.Token));
    }

    [Fact]
    public void GradientsOfAGroup_AreOneArray_AndComeBack()
    {
        using var scope = NewDisposeScope();
        var parameters = new[] { ("a", zeros(2, 2)), ("b", zeros(3)), ("c", zeros(1)) };
        var flat = FlatGradient.Join(parameters, new Dictionary<string, Tensor>
        {
            ["a"] = tensor(new[] { 1f, 2f, 3f, 4f }).reshape(2, 2).t(), // not contiguous
            ["c"] = tensor(new[] { 5f }),
        });
        Assert.Equal([1, 3, 2, 4, 0, 0, 0, 5], flat);
        var parts = FlatGradient.Split(parameters, flat, 0.5).ToList();
        Assert.Equal(["a", "b", "c"], parts.Select(part => part.Name));
        Assert.Equal([2, 2], parts[0].Value.shape);
        Assert.Equal([0.5f, 1.5f, 1, 2, 0, 0, 0, 2.5f], parts.SelectMany(part => part.Value.data<float>().ToArray()));
        Assert.Equal(flat, FlatGradient.Split(parameters, flat, 1).SelectMany(part => part.Value.data<float>().ToArray()));
    }

    /// <param name="lost">What every neighbour answers with.</param>
    private RingReduction Reduction(ShardPlace place, Exception? lost = null) =>
        new(place, _rounds[place], bfloat16: false, peer => new Peer(_rounds[peer], lost));

    /// <summary>Takes chunks, and nothing else.</summary>
    private sealed class Peer(Round round, Exception? lost) : InterruptedTrainingShard(null!)
    {
        public override Task PutAsync(RingChunk chunk, CancellationToken cancellation = default)
        {
            if (lost is not null)
                return Task.FromException(lost);
            Assert.Equal(round.Number, chunk.Round);
            round.Mail.Put(chunk);
            return Task.CompletedTask;
        }
    }
}
