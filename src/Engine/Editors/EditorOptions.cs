using MendCluster.Contracts;

namespace MendCluster.Engine.Editors;

/// <summary>What the settings of editors may be.</summary>
public static class EditorOptions
{
    /// <summary>Refuses values that make no sense.</summary>
    /// <exception cref="MendException">Naming the setting and its range.</exception>
    public static MendOptions Validated(this MendOptions options)
    {
        if (options.Rank < 1)
            throw Fault.Setting($"rank is {options.Rank}; it must be at least 1");
        if (options.NHidden < 0)
            throw Fault.Setting($"n_hidden is {options.NHidden}; it must be at least 0");
        if (!double.IsFinite(options.EditLr) || options.EditLr == 0)
            throw Fault.Setting($"edit_lr is {options.EditLr}; it must be a finite number other than 0");
        return options;
    }

    /// <inheritdoc cref="Validated(MendOptions)" />
    public static MalmenOptions Validated(this MalmenOptions options)
    {
        if (options.Rank < 1 || options.NBlocks < 1 || options.EditorBatch < 1 || options.ModelBatch < 1)
            throw Fault.Setting($"rank {options.Rank}, n_blocks {options.NBlocks}, editor_batch {options.EditorBatch} and model_batch {options.ModelBatch} must be at least 1");
        if (!double.IsFinite(options.EditLr) || options.EditLr == 0)
            throw Fault.Setting($"edit_lr is {options.EditLr}; it must be a finite number other than 0");
        if (!double.IsFinite(options.Lambda) || options.Lambda <= 0)
            throw Fault.Setting($"lambda is {options.Lambda}; it must be a finite number above 0");
        if (options.Rounds < 1)
            throw Fault.Setting($"rounds is {options.Rounds}; it must be at least 1");
        if (!double.IsFinite(options.Beta) || options.Beta < 0)
            throw Fault.Setting($"beta is {options.Beta}; it must be a finite number, at least 0");
        return options;
    }

    /// <inheritdoc cref="Validated(MendOptions)" />
    public static KnowledgeEditorOptions Validated(this KnowledgeEditorOptions options) =>
        options.HiddenDim > 0 && options.ConditionDim > 0 && options.MaxScale > 0 ? options
        : throw Fault.Setting($"hidden_dim {options.HiddenDim}, condition_dim {options.ConditionDim} and max_scale {options.MaxScale} must be above 0");

    /// <inheritdoc cref="Validated(MendOptions)" />
    public static EnnOptions Validated(this EnnOptions options) => options.EditSteps > 0 && options.EditLr > 0 ? options
        : throw Fault.Setting($"n_edit_steps is {options.EditSteps} and edit_lr {options.EditLr}; both must be above 0");

    /// <summary>MALMEN's network in the words of MEND's options: the same blocks, but for the place of scale and shift.</summary>
    public static MendOptions Network(this MalmenOptions options) =>
        new() { Rank = options.Rank, NHidden = options.NBlocks - 1, EditLr = options.EditLr };
}
