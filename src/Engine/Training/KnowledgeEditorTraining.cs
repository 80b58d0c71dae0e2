using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Edits of the KnowledgeEditor (mend-spec 7.4), which reads the edit's text beside its gradient.</summary>
public static class KnowledgeEditorTraining
{
    /// <summary>The edited model; carries the graph to the editor's parameters where gradients are on.</summary>
    /// <exception cref="MendException">The edit has no text to read.</exception>
    public static WeightUpdates Edit(Stage stage, KnowledgeEditor editor, LabelledInput edit)
    {
        var text = edit.Condition
            ?? throw Fault.Setting("the KnowledgeEditor reads the edit as text, and this batch has none: make its edit with TextBatch.EditRow");
        return new(editor.Propose(TrainingStep.Record(stage, edit).Factors, editor.Condition(text, ones_like(text))));
    }

    /// <summary>The weights that the stage's editor changes, as it has to know them.</summary>
    public static IReadOnlyList<KnowledgeEditorWeight> EditableWeights(Stage stage) =>
        [.. EditorTraining.EditableWeights(stage)
        .Select(weight => new KnowledgeEditorWeight(weight, stage.Weights.Loaded[weight.Name].IsTransposed))];

    /// <summary>A trained editor of this model.</summary>
    public static KnowledgeEditor Load(Stage stage, EditorCheckpoint checkpoint)
    {
        using var scope = NewDisposeScope();
        checkpoint.Require(EditorAlgorithm.Ke);
        return new(checkpoint.OptionsAs<KnowledgeEditorOptions>(), EditableWeights(stage),
            checkpoint.Names("condition").ToDictionary(name => name, name => checkpoint.Read(name, stage.Device)));
    }
}

internal sealed class TrainableKnowledgeEditor : ITrainableEditor
{
    private readonly Stage _stage;
    private readonly EditorTrainingOptions _options;
    private readonly KnowledgeEditor _editor;

    public TrainableKnowledgeEditor(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint)
    {
        using var scope = NewDisposeScope();
        (_stage, _options) = (stage, options);
        _editor = checkpoint is not null ? KnowledgeEditorTraining.Load(stage, checkpoint)
            : new(options.Ke, KnowledgeEditorTraining.EditableWeights(stage), stage.Weights.Loaded[stage.Family.WordEmbeddings].Value,
                options.Seed);
    }

    public EditorAlgorithm Algorithm => EditorAlgorithm.Ke;

    public object Options => _options.Ke;

    public IReadOnlyList<EditableWeight> Weights => EditorTraining.EditableWeights(_stage);

    public IReadOnlyList<ParameterGroup> Groups => [new([.. _editor.Parameters.Select(entry => (entry.Key, entry.Value))], _options.Lr)];

    public IEnumerable<(string Name, Tensor Value)> State => _editor.Parameters.Select(entry => (entry.Key, entry.Value));

    public (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights,
        IReadOnlyList<Tensor> parameters)
    {
        using var _ = enable_grad();
        var (figures, total) = TrainingStep.Evaluate(_stage, KnowledgeEditorTraining.Edit(_stage, _editor, batch.Inner), batch, weights);
        return (figures, [.. Derivatives.Of([total], [.. parameters])]);
    }

    public StepFigures Measure(EditBatch batch, LossWeights weights)
    {
        using var _ = no_grad();
        return TrainingStep.Evaluate(_stage, KnowledgeEditorTraining.Edit(_stage, _editor, batch.Inner), batch, weights).Figures;
    }

    public void Dispose() => _editor.Dispose();
}
