namespace MendCluster.Engine.Editors;

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
public sealed record MendOptions
{
    /// <summary>r, the width of each block's bottleneck, cut to the network's input width.</summary>
    /// <value>1920.</value>
    public int Rank { get; init; } = 1920;

    /// <summary>The network has <c>NHidden + 1</c> blocks, all alike.</summary>
    /// <value>1.</value>
    public int NHidden { get; init; } = 1;

    public EditorInit Init { get; init; } = EditorInit.Identity;

    public EditorSides Sides { get; init; } = EditorSides.Combined;

    /// <summary>Normalise u and delta by their running statistics before the network. False is the ablation "no norm".</summary>
    /// <value>true.</value>
    public bool Norm { get; init; } = true;

    /// <summary>One network for all weights of a shape, told apart by a scale and a shift each. False: one network per weight.</summary>
    /// <value>true.</value>
    public bool Shared { get; init; } = true;

    /// <summary>Initial alpha, the learned edit learning rate of every weight.</summary>
    /// <value>1e-4.</value>
    public double EditLr { get; init; } = 1e-4;

    /// <summary>
    /// Keeps the published code's quirks, for comparing numbers with it: the update is added instead of subtracted, alpha is stepped with
    /// the editor's learning rate, each weight's rows are normalised before the next weight's rows enter the statistics, and the
    /// gradients of the editor's biases are collected once more, undivided by the window.
    /// </summary>
    /// <value>false: the paper's formulas.</value>
    public bool Reference { get; init; }

    /// <summary>Refuses values that make no sense.</summary>
    /// <exception cref="EditorException">Naming the setting and its range.</exception>
    public MendOptions Validated()
    {
        if (Rank < 1)
            throw new EditorException($"rank is {Rank}; it must be at least 1");
        if (NHidden < 0)
            throw new EditorException($"n_hidden is {NHidden}; it must be at least 0");
        if (!double.IsFinite(EditLr) || EditLr == 0)
            throw new EditorException($"edit_lr is {EditLr}; it must be a finite number other than 0");
        return this;
    }
}
