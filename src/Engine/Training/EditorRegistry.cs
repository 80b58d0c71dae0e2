using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>What is to be known of an editor that is kept in a file.</summary>
/// <param name="Name">As in the paper's tables.</param>
public sealed record EditorKind(EditorAlgorithm Algorithm, string Name)
{
    /// <summary>Most edits that it makes at once; null: any number.</summary>
    public int? MaxEdits { get; init; }

    /// <summary>Its networks in the words of MEND's options, for planning; null: its edits need more than gradients.</summary>
    public Func<EditorCheckpoint, MendOptions>? Network { get; init; }

    /// <summary>
    /// The editor of a file: tensors by their names, and the weights that are needed (null: all). Null: its edits need more than gradients.
    /// </summary>
    public Func<EditorCheckpoint, Func<string, Tensor>, IReadOnlyCollection<string>?, IPreparedEditor>? Load { get; init; }

    /// <summary>
    /// What a run trains: a new editor, or that of a run's checkpoint; a new one that goes round keys is told them. Null: nothing of it is
    /// trained.
    /// </summary>
    public Func<Stage, EditorTrainingOptions, EditorCheckpoint?, Func<IReadOnlyDictionary<string, PreservedKeys>>?, ITrainableEditor>?
        Train
    { get; init; }

    /// <summary>
    /// How many numbers <see cref="Train"/> would train on a model, of which the stage needs no more than the shapes. Null: nothing is trained.
    /// </summary>
    public Func<Stage, EditorTrainingOptions, long>? Parameters { get; init; }

    /// <summary>What tells a file's editor from others of its kind in a table, after the name; null: nothing. Reads no tensor.</summary>
    public Func<EditorCheckpoint, string>? Variant { get; init; }

    /// <summary>Whether it can be told keys to go round.</summary>
    public bool Preserves { get; init; }
}

/// <summary>
/// The editors that are kept in a file. A new one is a file in <c>Engine/Editors</c>, its name in <see cref="EditorAlgorithm"/>, and its
/// row here.
/// </summary>
public static class EditorRegistry
{
    public static IReadOnlyList<EditorKind> All { get; } =
    [
        new(EditorAlgorithm.Mend, "MEND")
        {
            Network = file => file.OptionsAs<MendOptions>(),
            Load = (file, read, wanted) => new Mend(file.OptionsAs<MendOptions>(), file.Weights, read, wanted),
            Train = (stage, options, checkpoint, _) => new TrainableMend(stage, options, checkpoint),
            Parameters = (stage, options) => Mend.ParametersOf(options.Mend, EditorTraining.EditableWeights(stage))
                + stage.EditableOrder.Count, // alpha
        },
        new(EditorAlgorithm.Ke, "KE")
        {
            MaxEdits = 1, // it reads the text of one edit
            Train = (stage, options, checkpoint, _) => new TrainableKnowledgeEditor(stage, options, checkpoint),
            Parameters = (stage, options) => KnowledgeEditor.ParametersOf(options.Ke, KnowledgeEditorTraining.EditableWeights(stage),
                stage.Weights.Loaded[stage.Family.WordEmbeddings].Value),
        },
        new(EditorAlgorithm.Enn, "ENN")
        {
            Train = (stage, options, checkpoint, _) => new TrainableEnn(stage, options, checkpoint),
            Parameters = (stage, _) => stage.Weights.Loaded.Values.Sum(weight => weight.Value.numel()) + stage.EditableOrder.Count,
        },
        new(EditorAlgorithm.Malmen, "MALMEN")
        {
            Network = file => file.OptionsAs<MalmenOptions>().Network(),
            Load = (file, read, wanted) => new Malmen(file.OptionsAs<MalmenOptions>(), file.Weights, read, wanted,
                file.HasPreservedKeys ? weight => Malmen.ReadPreserved(weight, read) : null),
            Train = (stage, options, checkpoint, preserved) => new TrainableMalmen(stage, options, checkpoint, preserved),
            Parameters = (stage, options) => Mend.ParametersOf(options.Malmen.Network(), EditorTraining.EditableWeights(stage))
                + 2 * stage.EditableOrder.Count, // eta and rho
            Variant = file => (file.OptionsAs<MalmenOptions>().Rounds is > 1 and var rounds ? $", {rounds} rounds" : "")
                + (file.HasPreservedKeys ? ", preserved keys" : "") + (file.OptionsAs<MalmenOptions>().Sequential ? ", sequential" : ""),
            Preserves = true,
        },
        new(EditorAlgorithm.UltraEdit, "UltraEdit")
        {
            Network = _ => new() { Rank = 1 }, // it has none
            Load = (file, read, wanted) => new UltraEdit(file.OptionsAs<UltraEditOptions>(), file.Weights, read, wanted),
        },
    ];

    public static EditorKind Of(EditorAlgorithm algorithm) => All.Single(kind => kind.Algorithm == algorithm);

    /// <summary>Makes what a training run trains.</summary>
    /// <param name="stage">The whole model. ENN trains its weights.</param>
    /// <param name="checkpoint">Of a run to go on with; null: a new editor.</param>
    /// <param name="preserved">The keys that a new editor is to go round, by weight; null: none.</param>
    /// <exception cref="MendException">The checkpoint is of another algorithm.</exception>
    /// <exception cref="MendException">Nothing of the algorithm is trained.</exception>
    public static ITrainableEditor Train(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint = null,
        Func<IReadOnlyDictionary<string, PreservedKeys>>? preserved = null)
    {
        checkpoint?.Require(options.Algorithm);
        return Of(options.Algorithm).Train?.Invoke(stage, options, checkpoint, preserved)
            ?? throw Fault.Setting($"{options.Algorithm} has nothing to train");
    }
}
