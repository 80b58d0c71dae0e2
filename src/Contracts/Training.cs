using Orleans;

namespace MendCluster.Contracts;

/// <summary>Trains an editor, or goes on with its run.</summary>
public interface IEditorTrainer
{
    /// <param name="progress">Told after every optimiser step.</param>
    /// <returns>
    /// When the run is over: early stopping, its last iteration, or cancelled. A run that was cancelled goes on from its last checkpoint.
    /// </returns>
    /// <exception cref="MendException">
    /// <see cref="MendError.ShardLost"/> when no replica is left; start again, it goes on from its checkpoint.
    /// </exception>
    Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default);
}

/// <summary>The runs of a model, one at a time. A run goes on by itself, whoever watches it; it is named by its folder.</summary>
public interface ITrainingJobs
{
    /// <summary>Begins a run, or joins the one that the same order began. Returns when the order was found good.</summary>
    /// <exception cref="MendException">Another run is under way, or the order cannot be carried out; then nothing was written.</exception>
    Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default);

    /// <summary>Every step of a run from its start on, and those to come until it ends, however it does.</summary>
    /// <param name="run">The run's folder.</param>
    /// <param name="after">Only those of later iterations.</param>
    /// <exception cref="MendException"><see cref="MendError.CoordinatorLost"/>: there is no such run.</exception>
    IAsyncEnumerable<TrainingProgress> WatchAsync(string run, long after, CancellationToken cancellation = default);

    /// <summary>Where a run is; null: none of this folder is known.</summary>
    Task<TrainingStatus?> FindAsync(string run, CancellationToken cancellation = default);

    /// <summary>Waits for the end of a run.</summary>
    /// <exception cref="MendException">It failed.</exception>
    Task<TrainingResult> ResultAsync(string run, CancellationToken cancellation = default);

    /// <summary>
    /// Ends a run before its time, and waits until it has ended. It goes on from its last checkpoint when the order is sent again.
    /// </summary>
    Task<TrainingResult> CancelAsync(string run, CancellationToken cancellation = default);
}

/// <summary>
/// A run that a cluster is asked for. The same order sent again joins the run while it is under way, and goes on with it after.
/// </summary>
/// <param name="Options">The run's settings.</param>
/// <param name="Data">Edits: a file that every silo which may have the trainer can read; .json, .jsonl or .tsv. A whole path.</param>
/// <param name="Run">The run's folder, within reach of the same silos; it tells a run from others. A whole path.</param>
/// <param name="BFloat16OnWire">Gradients travel rounded to 16 bits.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingJobRequest")]
public sealed record TrainingJobRequest(
    [property: Id(0)] EditorTrainingOptions Options, [property: Id(1)] string Data, [property: Id(2)] string Run,
    [property: Id(3)] bool BFloat16OnWire = false);

/// <summary>Where a run is.</summary>
/// <param name="Iteration">Edits seen.</param>
/// <param name="Loss">Mean over the edits since the last report.</param>
/// <param name="Replicas">That took part in the last step.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingProgress")]
public sealed record TrainingProgress(
    [property: Id(0)] long Iteration, [property: Id(1)] long MaxIters, [property: Id(2)] double Loss,
    [property: Id(3)] double? BestValidation, [property: Id(4)] int Replicas = 1);

/// <param name="Stopped">"early stopping", "max_iters" or "cancelled".</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingResult")]
public sealed record TrainingResult(
    [property: Id(0)] long Iterations, [property: Id(1)] string Stopped, [property: Id(2)] double BestLoss,
    [property: Id(3)] long BestIteration);

public enum TrainingState
{
    Running,
    Ended,
    Failed,
}

/// <param name="Run">Its folder, or its name where folders are the server's own.</param>
/// <param name="Last">The last step; null: there was none yet.</param>
/// <param name="Result">How it ended.</param>
/// <param name="Error">Why it failed, and what to do.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingStatus")]
public sealed record TrainingStatus(
    [property: Id(0)] string Run, [property: Id(1)] TrainingState State, [property: Id(2)] TrainingProgress? Last = null,
    [property: Id(3)] TrainingResult? Result = null, [property: Id(4)] string? Error = null);

/// <summary>What a step measured of one edit.</summary>
/// <param name="Edit">L_e: NLL of the target on the rephrases, edited model.</param>
/// <param name="Locality">L_loc: KL of the unedited to the edited model on unrelated examples.</param>
/// <param name="Total">CEdit L_e + CLoc L_loc.</param>
/// <param name="EditAccuracy">Exact match on the rephrases, edited model.</param>
/// <param name="LocalityAccuracyBefore">Exact match on the unrelated examples, unedited model.</param>
/// <param name="LocalityAccuracyAfter">The same, edited model.</param>
/// <param name="LocalityNllBefore">NLL of the unrelated examples, unedited model; mean over <paramref name="LocalityTokens"/>.</param>
[GenerateSerializer, Immutable, Alias("mend.StepFigures")]
public sealed record StepFigures(
    [property: Id(0)] double Edit, [property: Id(1)] double Locality, [property: Id(2)] double Total, [property: Id(3)] double EditAccuracy,
    [property: Id(4)] double EditProbability, [property: Id(5)] double LocalityAccuracyBefore,
    [property: Id(6)] double LocalityAccuracyAfter, [property: Id(7)] double LocalityNllBefore, [property: Id(8)] double LocalityNllAfter,
    [property: Id(9)] long LocalityTokens);

/// <summary>A stage of a replica, both counted from 0.</summary>
[GenerateSerializer, Immutable, Alias("mend.ShardPlace")]
public readonly record struct ShardPlace([property: Id(0)] int Replica, [property: Id(1)] int Stage)
{
    public override string ToString() => $"replica {Replica}, stage {Stage}";
}

/// <summary>What all shards of a run agree on.</summary>
/// <param name="Options">The run's settings.</param>
/// <param name="Stages">Of each replica.</param>
/// <param name="BFloat16OnWire">Gradients travel rounded to 16 bits.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingSetup")]
public sealed record TrainingSetup(
    [property: Id(0)] EditorTrainingOptions Options, [property: Id(1)] int Stages, [property: Id(2)] bool BFloat16OnWire);

/// <param name="EditableWeights">Those of this stage.</param>
/// <param name="Groups">Whose parameters this shard has: a name for each shape's networks, and alpha's.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingShardStatus")]
public sealed record TrainingShardStatus(
    [property: Id(0)] IReadOnlyList<string> EditableWeights, [property: Id(1)] IReadOnlyList<string> Groups);

/// <summary>Elements [Offset, Offset + Count) of a tensor of the state.</summary>
[GenerateSerializer, Immutable, Alias("mend.StateSlice")]
public sealed record StateSlice([property: Id(0)] string Name, [property: Id(1)] long Offset, [property: Id(2)] int Count);

/// <summary>What belongs to a state beside its tensors.</summary>
/// <param name="Step">That comes next.</param>
/// <param name="Statistics">One entry a shape.</param>
[GenerateSerializer, Immutable, Alias("mend.OptimizerProgress")]
public sealed record OptimizerProgress(
    [property: Id(0)] long Step, [property: Id(1)] long AdamSteps, [property: Id(2)] long AverageSteps,
    [property: Id(3)] IReadOnlyList<RowStatistics> Statistics);

/// <summary>Statistics of gradient rows: of one edit at one weight, or all that a shape has seen. float64.</summary>
/// <param name="Name">Of the weight, or of the shape.</param>
/// <param name="UMean">[m], and <paramref name="USquares"/> the sum of squared deviations from it.</param>
/// <param name="DeltaMean">[n], and <paramref name="DeltaSquares"/> likewise.</param>
[GenerateSerializer, Immutable, Alias("mend.RowStatistics")]
public sealed record RowStatistics(
    [property: Id(0)] string Name, [property: Id(1)] long Count, [property: Id(2)] WireTensor UMean, [property: Id(3)] WireTensor USquares,
    [property: Id(4)] WireTensor DeltaMean, [property: Id(5)] WireTensor DeltaSquares);

public enum RoundKind
{
    /// <summary>An optimiser step.</summary>
    Step,

    /// <summary>Losses without gradients, of the averaged editor when the run keeps one.</summary>
    Validation,
}

/// <summary>One attempt at one step.</summary>
/// <param name="Number">Never used twice.</param>
/// <param name="Step">The optimiser step that the shard has to be at.</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingRound")]
public sealed record TrainingRound([property: Id(0)] long Number, [property: Id(1)] RoundKind Kind, [property: Id(2)] long Step);

/// <summary>What one edit of a step reads.</summary>
/// <param name="Inner">(x_e, y_e).</param>
/// <param name="Outer">(x'_e, y'_e).</param>
/// <param name="Locality">(x_loc, y_loc).</param>
[GenerateSerializer, Immutable, Alias("mend.TrainingExample")]
public sealed record TrainingExample(
    [property: Id(0)] TokenBatch Inner, [property: Id(1)] TokenBatch Outer, [property: Id(2)] TokenBatch Locality);

/// <param name="Edit">Number within the round.</param>
/// <param name="NeedsInputGradient">Whether a stage below has editable weights.</param>
[GenerateSerializer, Immutable, Alias("mend.RecordRequest")]
public sealed record RecordRequest(
    [property: Id(0)] long Round, [property: Id(1)] int Edit, [property: Id(2)] TokenBatch Tokens, [property: Id(3)] Boundary Below,
    [property: Id(4)] bool NeedsInputGradient);

/// <summary>The backward half of what was asked before.</summary>
/// <param name="Above">Gradients of what the forward half gave to the stage above; none for the last stage, which has the loss.</param>
[GenerateSerializer, Immutable, Alias("mend.PassBackward")]
public sealed record PassBackward(
    [property: Id(0)] long Round, [property: Id(1)] int Edit, [property: Id(2)] IReadOnlyList<Boundary> Above);

/// <param name="Below">Gradients of what the forward half was given.</param>
/// <param name="Rows">Of each weight of the stage.</param>
/// <param name="IsFinite">Otherwise the edit is left out of the step.</param>
[GenerateSerializer, Immutable, Alias("mend.RecordedReply")]
public sealed record RecordedReply(
    [property: Id(0)] Boundary Below, [property: Id(1)] IReadOnlyList<RowStatistics> Rows, [property: Id(2)] bool IsFinite);

/// <param name="Statistics">Of every shape, with this step's rows. Null: those of the last step, in a validation.</param>
[GenerateSerializer, Immutable, Alias("mend.ProposeRequest")]
public sealed record ProposeRequest(
    [property: Id(0)] long Round, [property: Id(1)] IReadOnlyList<int> Edits, [property: Id(2)] IReadOnlyList<RowStatistics>? Statistics);

/// <param name="OuterBelow">Of the edited model.</param>
/// <param name="BeforeBelow">Of the unedited model on the unrelated examples.</param>
/// <param name="AfterBelow">Of the edited one on the same; null while they are equal, that is below all editable weights.</param>
[GenerateSerializer, Immutable, Alias("mend.EvaluateRequest")]
public sealed record EvaluateRequest(
    [property: Id(0)] long Round, [property: Id(1)] int Edit, [property: Id(2)] TokenBatch Outer, [property: Id(3)] TokenBatch Locality,
    [property: Id(4)] Boundary OuterBelow, [property: Id(5)] Boundary BeforeBelow, [property: Id(6)] Boundary? AfterBelow,
    [property: Id(7)] bool NeedsInputGradient);

/// <param name="Figures">From the last stage.</param>
[GenerateSerializer, Immutable, Alias("mend.EvaluateReply")]
public sealed record EvaluateReply(
    [property: Id(0)] Boundary Outer, [property: Id(1)] Boundary Before, [property: Id(2)] Boundary? After,
    [property: Id(3)] StepFigures? Figures);

/// <param name="Below">Gradients of the request's OuterBelow and AfterBelow.</param>
[GenerateSerializer, Immutable, Alias("mend.EvaluatedReply")]
public sealed record EvaluatedReply([property: Id(0)] IReadOnlyList<Boundary> Below, [property: Id(1)] bool IsFinite);

/// <param name="Edits">Those that count.</param>
/// <param name="Share">Of each edit in the step's gradient.</param>
[GenerateSerializer, Immutable, Alias("mend.GradientRequest")]
public sealed record GradientRequest(
    [property: Id(0)] long Round, [property: Id(1)] IReadOnlyList<int> Edits, [property: Id(2)] double Share);

/// <summary>The owners of a group, in the order in which its gradient goes round.</summary>
[GenerateSerializer, Immutable, Alias("mend.Ring")]
public sealed record Ring([property: Id(0)] string Group, [property: Id(1)] IReadOnlyList<ShardPlace> Owners);

/// <param name="Rings">Those that the shard is in.</param>
[GenerateSerializer, Immutable, Alias("mend.ReduceRequest")]
public sealed record ReduceRequest([property: Id(0)] long Round, [property: Id(1)] IReadOnlyList<Ring> Rings);

/// <param name="SquaredNorm">Of the summed gradient.</param>
[GenerateSerializer, Immutable, Alias("mend.GradientNorm")]
public sealed record GradientNorm([property: Id(0)] string Group, [property: Id(1)] double SquaredNorm);

/// <param name="Lost">The neighbour that could not be reached, and why; then there are no norms.</param>
[GenerateSerializer, Immutable, Alias("mend.ReduceReply")]
public sealed record ReduceReply(
    [property: Id(0)] IReadOnlyList<GradientNorm> Norms, [property: Id(1)] ShardPlace? Lost = null, [property: Id(2)] string? Why = null);

/// <param name="Column">Which chunk of every segment.</param>
/// <param name="Step">Of the ring: the first half adds, the second copies.</param>
/// <param name="Values">float32 or bfloat16.</param>
[GenerateSerializer, Immutable, Alias("mend.RingChunk")]
public sealed record RingChunk(
    [property: Id(0)] long Round, [property: Id(1)] string Group, [property: Id(2)] long Column, [property: Id(3)] int Step,
    [property: Id(4)] WireTensor Values);

/// <param name="Scale">
/// Of the summed gradient, which keeps its norm in bounds. Null: the gradient was refused, the step counts without it.
/// </param>
/// <param name="Rate">Factor on the learning rates.</param>
[GenerateSerializer, Immutable, Alias("mend.CommitRequest")]
public sealed record CommitRequest([property: Id(0)] long Round, [property: Id(1)] double? Scale, [property: Id(2)] double Rate);

[GenerateSerializer, Immutable, Alias("mend.GroupDigest")]
public sealed record GroupDigest([property: Id(0)] string Group, [property: Id(1)] string Digest);
