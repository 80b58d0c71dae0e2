using System.Text.Json.Serialization;
using Orleans;

namespace MendCluster.Contracts;

/// <summary>The editors that are kept in a file.</summary>
public enum EditorAlgorithm
{
    Mend,

    /// <summary>KnowledgeEditor, in the paper's tables also EFK.</summary>
    Ke,

    Enn,

    Malmen,

    /// <summary>Nothing of it is trained.</summary>
    UltraEdit,
}

/// <summary>How the blocks of the editor network start.</summary>
public enum EditorInit
{
    /// <summary>U = 0, V standard normal, residual connection: the network is the identity on normalised factors (paper, 3.1).</summary>
    Identity,

    /// <summary>Xavier-uniform U and V, no residual connection: the ablation "no ID init".</summary>
    Xavier,
}

/// <summary>Which of the factors the editor network transforms; the others pass normalised but otherwise unchanged.</summary>
public enum EditorSides
{
    /// <summary>One network over the concatenation [u | delta]: the paper's MEND.</summary>
    Combined,

    /// <summary>Two networks, one over u and one over delta.</summary>
    Separate,

    /// <summary>Only u.</summary>
    UOnly,

    /// <summary>Only delta.</summary>
    DeltaOnly,

    /// <summary>Only the smaller of the two ("only smaller").</summary>
    Smaller,
}

/// <summary>
/// MEND's hyper-parameters, by the names of the authors' configuration (mend-spec 4.4). Settings that their code accepts and ignores
/// (hidden_dim, act, lr_lr in their trainer) do not exist here.
/// </summary>
[GenerateSerializer, Immutable, Alias("mend.MendOptions")]
public sealed record MendOptions
{
    /// <summary>r, the width of each block's bottleneck, cut to the network's input width.</summary>
    /// <value>1920.</value>
    [Id(0)]
    public int Rank { get; init; } = 1920;

    /// <summary>The network has <c>NHidden + 1</c> blocks, all alike.</summary>
    /// <value>1.</value>
    [Id(1)]
    public int NHidden { get; init; } = 1;

    [Id(2)]
    public EditorInit Init { get; init; } = EditorInit.Identity;

    [Id(3)]
    public EditorSides Sides { get; init; } = EditorSides.Combined;

    /// <summary>Normalise u and delta by their running statistics before the network. False is the ablation "no norm".</summary>
    /// <value>true.</value>
    [Id(4)]
    public bool Norm { get; init; } = true;

    /// <summary>One network for all weights of a shape, told apart by a scale and a shift each. False: one network per weight.</summary>
    /// <value>true.</value>
    [Id(5)]
    public bool Shared { get; init; } = true;

    /// <summary>Initial alpha, the learned edit learning rate of every weight.</summary>
    /// <value>1e-4.</value>
    [Id(6)]
    public double EditLr { get; init; } = 1e-4;

    /// <summary>
    /// Keeps the published code's quirks, for comparing numbers with it: the update is added instead of subtracted, alpha is stepped with
    /// the editor's learning rate, each weight's rows are normalised before the next weight's rows enter the statistics, and the
    /// gradients of the editor's biases are collected once more, undivided by the window.
    /// </summary>
    /// <value>false: the paper's formulas.</value>
    [Id(7)]
    public bool Reference { get; init; }
}

/// <summary>MALMEN's hyper-parameters (mend-spec 11.4).</summary>
[GenerateSerializer, Immutable, Alias("mend.MalmenOptions")]
public sealed record MalmenOptions
{
    /// <summary>r, the width of each block's bottleneck, cut to the network's input width.</summary>
    /// <value>1920.</value>
    [Id(0)]
    public int Rank { get; init; } = 1920;

    /// <summary>Blocks of the network.</summary>
    /// <value>2.</value>
    [Id(1)]
    public int NBlocks { get; init; } = 2;

    /// <summary>Initial eta, the learned step size of every weight.</summary>
    /// <value>1e-6.</value>
    [Id(2)]
    public double EditLr { get; init; } = 1e-6;

    /// <summary>Initial lambda, the learned ridge of every weight's least squares.</summary>
    /// <value>1.</value>
    [Id(3)]
    public double Lambda { get; init; } = 1;

    /// <summary>Rows that pass through the network at once.</summary>
    /// <value>1024.</value>
    [Id(4)]
    public int EditorBatch { get; init; } = 1024;

    /// <summary>Examples that pass through the model at once while training.</summary>
    /// <value>32.</value>
    [Id(5)]
    public int ModelBatch { get; init; } = 32;

    /// <summary>Rounds of an edit, each on the model as the rounds before it edited it.</summary>
    /// <value>1, as in the paper.</value>
    [Id(6)]
    public int Rounds { get; init; } = 1;

    /// <summary>How much preserved keys count beside as many of the edits' own, where the editor has any.</summary>
    /// <value>1.</value>
    [Id(7)]
    public double Beta { get; init; } = 1;

    /// <summary>
    /// Edits of a cluster go round the keys of those before them that are in force, and preserved keys count beside all of them together.
    /// Training does not depend on it.
    /// </summary>
    /// <value>False: each edit by itself.</value>
    [Id(8), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Sequential { get; init; }
}

/// <summary>Settings of the KnowledgeEditor; the defaults are the published ones.</summary>
[GenerateSerializer, Immutable, Alias("mend.KnowledgeEditorOptions")]
public sealed record KnowledgeEditorOptions
{
    /// <summary>H, of the LSTM in each direction and of the networks behind it.</summary>
    [Id(0)]
    public int HiddenDim { get; init; } = 512;

    /// <summary>K, the length of what the LSTM's result is summed up in.</summary>
    [Id(1)]
    public int ConditionDim { get; init; } = 768;

    /// <summary>Most factor on gradient and offset.</summary>
    [Id(2)]
    public double MaxScale { get; init; } = 1;
}

/// <summary>Settings of the editable neural network; the defaults are the paper's (mend-spec 7.3).</summary>
[GenerateSerializer, Immutable, Alias("mend.EnnOptions")]
public sealed record EnnOptions
{
    /// <summary>Gradient steps of an edit.</summary>
    [Id(0)]
    public int EditSteps { get; init; } = 1;

    /// <summary>Where the learned step of each weight begins.</summary>
    [Id(1)]
    public double EditLr { get; init; } = 1e-2;

    /// <summary>Trains as if the edit's gradient did not depend on the weights: no second derivatives.</summary>
    [Id(2)]
    public bool FirstOrder { get; init; }
}

/// <summary>Weights of the two losses (mend-spec 4.4).</summary>
/// <param name="CEdit">Of the edit loss L_e.</param>
/// <param name="CLoc">Of the locality loss L_loc.</param>
[GenerateSerializer, Immutable, Alias("mend.LossWeights")]
public sealed record LossWeights([property: Id(0)] double CEdit = 0.1, [property: Id(1)] double CLoc = 1.0);

/// <summary>Settings of a training run, by the names of the authors' configuration; the defaults are the paper's (mend-spec 4.4).</summary>
[GenerateSerializer, Immutable, Alias("mend.EditorTrainingOptions")]
public sealed record EditorTrainingOptions
{
    [Id(0)]
    public EditorAlgorithm Algorithm { get; init; }

    [Id(1)]
    public MendOptions Mend { get; init; } = new();

    /// <summary>Used with <see cref="EditorAlgorithm.Ke"/>.</summary>
    [Id(2)]
    public KnowledgeEditorOptions Ke { get; init; } = new();

    /// <summary>Used with <see cref="EditorAlgorithm.Enn"/>.</summary>
    [Id(3)]
    public EnnOptions Enn { get; init; } = new();

    /// <summary>Used with <see cref="EditorAlgorithm.Malmen"/>.</summary>
    [Id(4)]
    public MalmenOptions Malmen { get; init; } = new();

    /// <summary>Simultaneous edits of an iteration.</summary>
    /// <value>1. MEND's update for more is the sum of those that it proposes for each; KE makes one.</value>
    [Id(5)]
    public int Edits { get; init; } = 1;

    /// <summary>Unrelated rows of an iteration, where the task draws them.</summary>
    /// <value>1, as published.</value>
    [Id(6)]
    public int UnrelatedRows { get; init; } = 1;

    /// <summary>
    /// Which weights the editor changes: names of the paper's models, of weights, or patterns (<c>EditableWeights.Select</c>).
    /// </summary>
    /// <value>Empty: the family's own choice, as in the paper.</value>
    [Id(7)]
    public IReadOnlyList<string> Editable { get; init; } = [];

    [Id(8)]
    public LossWeights Loss { get; init; } = new();

    /// <summary>Adam's learning rate for phi; for the KnowledgeEditor's networks; for ENN's weights.</summary>
    /// <value>1e-6, of MEND; the paper's is 1e-5 for the two others.</value>
    [Id(9)]
    public double Lr { get; init; } = 1e-6;

    /// <summary>Adam's learning rate for the edit learning rates: alpha, MALMEN's eta and rho.</summary>
    [Id(10)]
    public double LrLr { get; init; } = 1e-4;

    /// <summary>Iterations (one edit, or one batch of simultaneous edits, each) that make an optimiser step.</summary>
    [Id(11)]
    public int AccumulateBs { get; init; } = 10;

    [Id(12)]
    public double GradClip { get; init; } = 100;

    /// <summary>The learning rates fall in a straight line to this fraction of themselves at <see cref="MaxIters"/>.</summary>
    /// <value>1: they stay, as in the paper.</value>
    [Id(13)]
    public double FinalRate { get; init; } = 1;

    /// <summary>
    /// Validates and keeps, instead of the editor itself, its running average: after every optimiser step this much of the average stays.
    /// Takes the noise of single edits out.
    /// </summary>
    /// <value>0: the editor itself, as in the paper.</value>
    [Id(14)]
    public double Averaging { get; init; }

    [Id(15)]
    public long MaxIters { get; init; } = 500_000;

    /// <summary>Iterations between validations; a checkpoint is written at each.</summary>
    [Id(16)]
    public long ValInterval { get; init; } = 5000;

    /// <summary>Edits of a validation.</summary>
    [Id(17)]
    public int ValSteps { get; init; } = 500;

    /// <summary>Iterations without a better validation before the run ends.</summary>
    [Id(18)]
    public long EarlyStopPatience { get; init; } = 20_000;

    [Id(19)]
    public long Seed { get; init; }

    /// <summary>Whether all settings are equal, those of lists too.</summary>
    public bool Equals(EditorTrainingOptions? other) => other is not null && Editable.SequenceEqual(other.Editable)
        && Others == other.Others;

    public override int GetHashCode() => Others.GetHashCode();

    private (EditorAlgorithm, MendOptions, KnowledgeEditorOptions, EnnOptions, MalmenOptions,
        (int, int, LossWeights, double, double, int, double),
        (double, double, long, long, int, long, long)) Others =>
            (Algorithm, Mend, Ke, Enn, Malmen, (Edits, UnrelatedRows, Loss, Lr, LrLr, AccumulateBs, GradClip),
        (FinalRate, Averaging, MaxIters, ValInterval, ValSteps, EarlyStopPatience, Seed));
}
