using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Training;

/// <summary>
/// A replica is lost at a call of a training step. The step is repeated by the others; nothing is lost, nothing counted twice.
/// </summary>
public sealed class TrainingFaultTests : IClassFixture<TrainingFaultTests.Model>
{
    private const int Window = TrainingOfTinyModel.Window;

    private const int Steps = 4;

    private readonly Model _model;
    private readonly Dictionary<ShardPlace, MortalTrainingShard> _shards = [];
    private (ShardPlace Place, TrainingCall Call)? _armed;

    public TrainingFaultTests(Model model) => _model = model;

    private string Name { get; } = Guid.NewGuid().ToString("n");

    /// <summary>Validations at 0, 2 and 4 steps.</summary>
    private static EditorTrainingOptions Options => TrainingOfTinyModel.Options(Steps) with { ValInterval = 2 * Window, Averaging = 0.9 };

    public static TheoryData<TrainingCall, int> CallsOfAStep =>
        Each(TrainingCall.Begin, TrainingCall.Record, TrainingCall.RecordBackward, TrainingCall.Propose,
        TrainingCall.Evaluate, TrainingCall.EvaluateBackward, TrainingCall.Gradient, TrainingCall.Reduce, TrainingCall.Put,
            TrainingCall.Commit);

    public static TheoryData<TrainingCall, int> CallsOfAValidation =>
        Each(TrainingCall.Begin, TrainingCall.Record, TrainingCall.RecordBackward, TrainingCall.Propose, TrainingCall.Evaluate,
        TrainingCall.Forget, TrainingCall.End);

    [Theory]
    [MemberData(nameof(CallsOfAStep))]
    public async Task AReplicaLostInAStep_LosesNothing(TrainingCall call, int replica)
    {
        // After the commit of one replica the step is done, with the gradient of both; before it, it is done anew by one.
        var together = call == TrainingCall.Commit ? 2 : 1;
        await LostAsync(call, replica, after: 1, together);
    }

    [Theory]
    [MemberData(nameof(CallsOfAValidation))]
    public Task AReplicaLostInAValidation_LosesNothing(TrainingCall call, int replica) => LostAsync(call, replica, after: 2, together: 2);

    /// <summary>State is read from the first owner that lives.</summary>
    [Theory]
    [InlineData(TrainingCall.Read)]
    [InlineData(TrainingCall.Mark)]
    public Task AReplicaLostWhileACheckpointIsMade_LosesNothing(TrainingCall call) => LostAsync(call, 0, after: 2, together: 2);

    [Theory]
    [InlineData(TrainingCall.Open)]
    [InlineData(TrainingCall.Write)]
    [InlineData(TrainingCall.Restore)]
    public Task AReplicaThatCannotBegin_IsDoneWithout(TrainingCall call) => LostAsync(call, 1, after: 0, together: 0);

    [Fact]
    public async Task AReplicaThatComesBackEmpty_TakesPartAgain()
    {
        var (_, steps) = await TrainAsync(6, step =>
        {
            if (step.Iteration == Window)
                _shards[new(1, 0)].Arm(TrainingCall.Evaluate);
            if (step.Iteration == 3 * Window)
                _shards[new(1, 0)].ComeBackAsync().GetAwaiter().GetResult();
        });
        Assert.Equal([2, 1, 1], steps.Take(3).Select(step => step.Replicas));
        Assert.Equal(2, steps[^1].Replicas);
        Assert.Equal(await _model.AfterAsync([.. steps.Select(step => step.Replicas)]), _model.Training.State(Name));
    }

    [Fact]
    public async Task WithoutAReplica_TheRunEndsAndGoesOnFromItsCheckpoint()
    {
        var error = await Assert.ThrowsAsync<MendException>(() => TrainAsync(Steps, step =>
        {
            if (step.Iteration == 3 * Window)
                foreach (var shard in _shards.Values)
                    shard.Arm(TrainingCall.Gradient);
        }));
        Assert.Equal(MendError.ShardLost, error.Error);
        Assert.Contains("replica 1", error.Message, StringComparison.Ordinal);
        var (result, steps) = await TrainAsync(Steps, null);
        Assert.Equal((Steps * Window, 2), (result.Iterations, steps.Count));
        Assert.Equal(await _model.AfterAsync([2, 2, 2, 2]), _model.Training.State(Name));
    }

    [Theory]
    [InlineData(TrainingCall.Record)]
    [InlineData(TrainingCall.Put)]
    public async Task ACancelledRun_GoesOnAsIfItHadNotBeen(TrainingCall call)
    {
        using var stop = new CancellationTokenSource();
        var armed = false;
        var (result, _) = await _model.Training.TrainAsync(Name, 2, 2, Options, cancellation: stop.Token,
            onStep: step => armed = step.Iteration == 3 * Window,
            wrap: (shard, _) => new Watched(shard, met =>
            {
                if (armed && met == call)
                    stop.Cancel();
            }));
        Assert.Equal(("cancelled", 3 * Window), (result.Stopped, result.Iterations));
        var (resumed, _) = await _model.Training.TrainAsync(Name, 2, 2, Options);
        Assert.Equal(("max_iters", (long)Steps * Window), (resumed.Stopped, resumed.Iterations));
        Assert.Equal(await _model.AfterAsync([2, 2, 2, 2]), _model.Training.State(Name));
    }

    /// <summary>An edit whose numbers are not finite is left out, everywhere and in the statistics too.</summary>
    [Theory]
    [InlineData(TrainingCall.RecordBackward)]
    [InlineData(TrainingCall.EvaluateBackward)]
    public async Task AnEditThatIsNotFinite_IsRefused(TrainingCall call)
    {
        await _model.Training.TrainAsync(Name, 2, 2, TrainingOfTinyModel.Options(10), wrap: (shard, place) => place.Stage == 0
            ? new Poisoned(shard, call, edit: 3) : shard);
        Assert.All(_model.Training.State(Name), entry => Assert.All(entry.Value, value => Assert.True(float.IsFinite(value), entry.Key)));
        Assert.Contains("\"refused\":1,", File.ReadAllText(_model.Training.Run(Name).Metrics), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AGradientThatIsNotFinite_IsNotTaken()
    {
        await _model.Training.TrainAsync(Name, 2, 1, TrainingOfTinyModel.Options(5), wrap: (shard, _) => new InfiniteGradient(shard));
        var state = _model.Training.State(Name);
        Assert.All(state.Where(entry => entry.Key.StartsWith("adam.", StringComparison.Ordinal)),
            moment => Assert.All(moment.Value, value => Assert.Equal(0, value)));
        Assert.All(state["edit_lrs"], alpha => Assert.Equal(0.1f, alpha));
        Assert.Contains(state, entry => entry.Key.EndsWith(".k", StringComparison.Ordinal) && entry.Value[0] > 0); // rows were seen
    }

    [Fact]
    public async Task AShardThatComputesWrongly_IsNamed()
    {
        var error = await Assert.ThrowsAsync<MendException>(() => _model.Training.TrainAsync(Name, 3, 1, TrainingOfTinyModel.Options(5),
            wrap: (shard, place) => place.Replica == 2 ? new Corrupted(shard) : shard));
        Assert.Equal(MendError.ReplicasDiffer, error.Error);
        Assert.Contains("replica 2, stage 0", error.Message, StringComparison.Ordinal);
    }

    /// <summary>Every part of what a checkpoint has: a run that goes on equals one that never stopped.</summary>
    [Fact]
    public async Task ARunInParts_IsTheRunInOne()
    {
        await _model.Training.TrainAsync(Name, 2, 2, Options with { MaxIters = 2 * Window });
        await _model.Training.TrainAsync(Name, 2, 2, Options);
        await _model.Training.TrainAsync(Name + "whole", 2, 2, Options);
        Assert.Equal(_model.Training.State(Name + "whole"), _model.Training.State(Name));
    }

    private static TheoryData<TrainingCall, int> Each(params TrainingCall[] calls)
    {
        var data = new TheoryData<TrainingCall, int>();
        foreach (var call in calls)
            for (var replica = 0; replica < 2; replica++)
                data.Add(call, replica);
        return data;
    }

    /// <param name="after">Steps before the fault.</param>
    /// <param name="together">Steps that both replicas took part in.</param>
    private async Task LostAsync(TrainingCall call, int replica, int after, int together)
    {
        // stage 0 has every shape, and is the one that is read
        var shard = new ShardPlace(replica, call == TrainingCall.Read ? 0 : (int)call % 2);
        if (after == 0)
            _armed = (shard, call);
        var (result, steps) = await TrainAsync(Steps, step =>
        {
            if (step.Iteration == after * Window)
                _shards[shard].Arm(call);
        });
        Assert.True(_shards[shard].IsAway, "the fault was never met");
        Assert.Equal(("max_iters", Steps), (result.Stopped, steps.Count));
        Assert.Equal(1, steps[^1].Replicas);
        Assert.Equal(await _model.AfterAsync([.. Enumerable.Repeat(2, together), .. Enumerable.Repeat(1, Steps - together)]),
            _model.Training.State(Name));
    }

    private Task<(TrainingResult Result, IReadOnlyList<TrainingProgress> Steps)> TrainAsync(int steps, Action<TrainingProgress>? onStep) =>
        _model.Training.TrainAsync(Name, 2, 2, Options with { MaxIters = steps * Window }, onStep: onStep, wrap: (shard, place) =>
        {
            _shards[place] = new(shard, () => new TrainingShard(new(_model.Training.Model, place), peer => _shards[peer]));
            if (_armed?.Place == place)
                _shards[place].Arm(_armed.Value.Call);
            return _shards[place];
        });

    /// <summary>A model, and what undisturbed runs of it come to.</summary>
    public sealed class Model : IDisposable
    {
        private readonly Dictionary<string, IReadOnlyDictionary<string, float[]>> _known = [];

        internal TrainingOfTinyModel Training { get; } = new("t5");

        /// <summary>
        /// The state after steps that so many replicas each took part in: a run that goes on from its checkpoint with another layout.
        /// </summary>
        public async Task<IReadOnlyDictionary<string, float[]>> AfterAsync(IReadOnlyList<int> replicas)
        {
            var run = string.Concat(replicas);
            if (_known.TryGetValue(run, out var known))
                return known;
            var step = 0;
            while (step < replicas.Count)
            {
                var same = replicas.Skip(step).TakeWhile(count => count == replicas[step]).Count();
                await Training.TrainAsync(run, replicas[step], 2, Options with { ValInterval = Window, MaxIters = (step + same) * Window });
                step += same;
            }
            return _known[run] = Training.State(run);
        }

        public void Dispose() => Training.Dispose();
    }

    private sealed class Watched(ITrainingShard shard, Action<TrainingCall> met) : InterruptedTrainingShard(shard)
    {
        protected override Task MeetAsync(TrainingCall call)
        {
            met(call);
            return Task.CompletedTask;
        }
    }

    /// <summary>Meets NaN coming down from the stage above, once.</summary>
    private sealed class Poisoned(ITrainingShard shard, TrainingCall call, int edit) : InterruptedTrainingShard(shard)
    {
        private bool _done;

        public override Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
            base.RecordBackwardAsync(Poison(request, TrainingCall.RecordBackward), cancellation);

        public override Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
            base.EvaluateBackwardAsync(Poison(request, TrainingCall.EvaluateBackward), cancellation);

        private PassBackward Poison(PassBackward request, TrainingCall met)
        {
            if (met != call || request.Edit != edit || _done)
                return request;
            _done = true;
            WireTensor? NaN(WireTensor? values) => values is null ? null : values with
            {
                Bytes = Enumerable.Repeat(BitConverter.GetBytes(float.NaN), values.Bytes.Length / 4).SelectMany(bytes => bytes).ToArray(),
            };
            return request with { Above = [.. request.Above.Select(boundary => new Boundary(NaN(boundary.Hidden), NaN(boundary.Memory)))] };
        }
    }

    private sealed class InfiniteGradient(ITrainingShard shard) : InterruptedTrainingShard(shard)
    {
        public override async Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default)
        {
            await base.GradientAsync(request, cancellation);
            return false;
        }
    }

    /// <summary>One bit of what it is given is turned.</summary>
    private sealed class Corrupted(ITrainingShard shard) : InterruptedTrainingShard(shard)
    {
        public override Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default)
        {
            if (slice.Name.EndsWith("layers.0.v", StringComparison.Ordinal))
                values = values with { Bytes = (byte[])[(byte)(values.Bytes.Span[0] ^ 1), .. values.Bytes.Span[1..]] };
            return base.WriteAsync(slice, values, cancellation);
        }
    }
}
