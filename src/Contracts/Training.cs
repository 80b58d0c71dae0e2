namespace MendCluster.Contracts;

/// <summary>Trains an editor, or goes on with its run.</summary>
public interface IEditorTrainer
{
    /// <param name="progress">Told after every optimiser step.</param>
    /// <returns>When the run is over: early stopping, its last iteration, or cancelled. A run that was cancelled goes on from its last checkpoint.</returns>
    /// <exception cref="MendException"><see cref="MendError.ShardLost"/> when no replica is left; start again, it goes on from its checkpoint.</exception>
    Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default);
}

/// <summary>A run that a cluster is asked for. The same order sent again joins the run while it is under way, and goes on with it after.</summary>
/// <param name="Options">The run's settings as JSON.</param>
/// <param name="Data">Edits: a file that every silo which may have the trainer can read; .json, .jsonl or .tsv. A whole path.</param>
/// <param name="Run">The run's folder, within reach of the same silos; it tells a run from others. A whole path.</param>
/// <param name="BFloat16OnWire">Gradients travel rounded to 16 bits.</param>
public sealed record TrainingOrder(string Options, string Data, string Run, bool BFloat16OnWire = false);

/// <summary>Where a run is.</summary>
/// <param name="Iteration">Edits seen.</param>
/// <param name="Loss">Mean over the edits since the last report.</param>
/// <param name="Replicas">That took part in the last step.</param>
public sealed record TrainingProgress(long Iteration, long MaxIters, double Loss, double? BestValidation, int Replicas = 1);

/// <param name="Stopped">"early stopping", "max_iters" or "cancelled".</param>
public sealed record TrainingResult(long Iterations, string Stopped, double BestLoss, long BestIteration);

/// <summary>What a step measured of one edit.</summary>
/// <param name="Edit">L_e: NLL of the target on the rephrases, edited model.</param>
/// <param name="Locality">L_loc: KL of the unedited to the edited model on unrelated examples.</param>
/// <param name="Total">CEdit L_e + CLoc L_loc.</param>
/// <param name="EditAccuracy">Exact match on the rephrases, edited model.</param>
/// <param name="LocalityAccuracyBefore">Exact match on the unrelated examples, unedited model.</param>
/// <param name="LocalityAccuracyAfter">The same, edited model.</param>
/// <param name="LocalityNllBefore">NLL of the unrelated examples, unedited model; mean over <paramref name="LocalityTokens"/>.</param>
public sealed record StepFigures(
    double Edit, double Locality, double Total, double EditAccuracy, double EditProbability,
    double LocalityAccuracyBefore, double LocalityAccuracyAfter, double LocalityNllBefore, double LocalityNllAfter, long LocalityTokens);

/// <summary>A stage of a replica, both counted from 0.</summary>
public readonly record struct ShardPlace(int Replica, int Stage)
{
    public override string ToString() => $"replica {Replica}, stage {Stage}";
}

/// <summary>What all shards of a run agree on.</summary>
/// <param name="Options">The run's settings as JSON.</param>
/// <param name="Stages">Of each replica.</param>
/// <param name="BFloat16OnWire">Gradients travel rounded to 16 bits.</param>
public sealed record TrainingSetup(string Options, int Stages, bool BFloat16OnWire);

/// <param name="EditableWeights">Those of this stage.</param>
/// <param name="Groups">Whose parameters this shard has: a name for each shape's networks, and alpha's.</param>
public sealed record TrainingShardStatus(IReadOnlyList<string> EditableWeights, IReadOnlyList<string> Groups);

/// <summary>Elements [Offset, Offset + Count) of a tensor of the state.</summary>
public sealed record StateSlice(string Name, long Offset, int Count);

/// <summary>What belongs to a state beside its tensors.</summary>
/// <param name="Step">That comes next.</param>
/// <param name="Statistics">One entry a shape.</param>
public sealed record StateMark(long Step, long AdamSteps, long AverageSteps, IReadOnlyList<RowStatistics> Statistics);

/// <summary>Statistics of gradient rows: of one edit at one weight, or all that a shape has seen. float64.</summary>
/// <param name="Name">Of the weight, or of the shape.</param>
/// <param name="UMean">[m], and <paramref name="USquares"/> the sum of squared deviations from it.</param>
/// <param name="DeltaMean">[n], and <paramref name="DeltaSquares"/> likewise.</param>
public sealed record RowStatistics(string Name, long Count, WireTensor UMean, WireTensor USquares, WireTensor DeltaMean, WireTensor DeltaSquares);

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
public sealed record TrainingRound(long Number, RoundKind Kind, long Step);

/// <summary>What one edit of a step reads.</summary>
/// <param name="Inner">(x_e, y_e).</param>
/// <param name="Outer">(x'_e, y'_e).</param>
/// <param name="Locality">(x_loc, y_loc).</param>
public sealed record TrainingExample(TokenBatch Inner, TokenBatch Outer, TokenBatch Locality);

/// <summary>What passes between two stages: activations on the way up, their gradients on the way down.</summary>
/// <param name="Hidden">[B, T, C] float32; null at the entry of a stack.</param>
/// <param name="Memory">[B, S, C] float32, the encoder's output, once there is one.</param>
public sealed record Boundary(WireTensor? Hidden, WireTensor? Memory)
{
    public static readonly Boundary None = new(null, null);
}

/// <param name="Edit">Number within the round.</param>
/// <param name="NeedsInputGradient">Whether a stage below has editable weights.</param>
public sealed record RecordRequest(long Round, int Edit, TokenBatch Tokens, Boundary Below, bool NeedsInputGradient);

/// <summary>The backward half of what was asked before.</summary>
/// <param name="Above">Gradients of what the forward half gave to the stage above; none for the last stage, which has the loss.</param>
public sealed record PassBackward(long Round, int Edit, IReadOnlyList<Boundary> Above);

/// <param name="Below">Gradients of what the forward half was given.</param>
/// <param name="Rows">Of each weight of the stage.</param>
/// <param name="IsFinite">Otherwise the edit is left out of the step.</param>
public sealed record RecordedReply(Boundary Below, IReadOnlyList<RowStatistics> Rows, bool IsFinite);

/// <param name="Statistics">Of every shape, with this step's rows. Null: those of the last step, in a validation.</param>
public sealed record ProposeRequest(long Round, IReadOnlyList<int> Edits, IReadOnlyList<RowStatistics>? Statistics);

/// <param name="OuterBelow">Of the edited model.</param>
/// <param name="BeforeBelow">Of the unedited model on the unrelated examples.</param>
/// <param name="AfterBelow">Of the edited one on the same; null while they are equal, that is below all editable weights.</param>
public sealed record EvaluateRequest(
    long Round, int Edit, TokenBatch Outer, TokenBatch Locality, Boundary OuterBelow, Boundary BeforeBelow, Boundary? AfterBelow, bool NeedsInputGradient);

/// <param name="Figures">From the last stage.</param>
public sealed record EvaluateReply(Boundary Outer, Boundary Before, Boundary? After, StepFigures? Figures);

/// <param name="Below">Gradients of the request's OuterBelow and AfterBelow.</param>
public sealed record EvaluatedReply(IReadOnlyList<Boundary> Below, bool IsFinite);

/// <param name="Edits">Those that count.</param>
/// <param name="Share">Of each edit in the step's gradient.</param>
public sealed record GradientRequest(long Round, IReadOnlyList<int> Edits, double Share);

/// <summary>The owners of a group, in the order in which its gradient goes round.</summary>
public sealed record Ring(string Group, IReadOnlyList<ShardPlace> Owners);

/// <param name="Rings">Those that the shard is in.</param>
public sealed record ReduceRequest(long Round, IReadOnlyList<Ring> Rings);

/// <param name="SquaredNorm">Of the summed gradient.</param>
public sealed record GroupNorm(string Group, double SquaredNorm);

/// <param name="Lost">The neighbour that could not be reached, and why; then there are no norms.</param>
public sealed record ReduceReply(IReadOnlyList<GroupNorm> Norms, ShardPlace? Lost = null, string? Why = null);

/// <param name="Column">Which chunk of every segment.</param>
/// <param name="Step">Of the ring: the first half adds, the second copies.</param>
/// <param name="Values">float32 or bfloat16.</param>
public sealed record RingChunk(long Round, string Group, long Column, int Step, WireTensor Values);

/// <param name="Scale">Of the summed gradient, which keeps its norm in bounds. Null: the gradient was refused, the step counts without it.</param>
/// <param name="Rate">Factor on the learning rates.</param>
public sealed record CommitRequest(long Round, double? Scale, double Rate);

public sealed record GroupDigest(string Group, string Digest);
