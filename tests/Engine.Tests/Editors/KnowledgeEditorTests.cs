using MendCluster.Contracts;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

public class KnowledgeEditorTests
{
    private static readonly KnowledgeEditorOptions Small = new() { HiddenDim = 3, ConditionDim = 4 };

    private static readonly KnowledgeEditorWeight[] Weights = [new(new("a.weight", 5, 6), false), new(new("b.weight", 6, 5), true)];

    [Fact]
    public void ANewEditor_BeginsWithTheModelsWords_AndIsTheSameForTheSameSeed()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var words = randn([9, 7], generator: generator);
        using var first = new KnowledgeEditor(Small, Weights, words, seed: 3);
        using var same = new KnowledgeEditor(Small, Weights, words, seed: 3);
        using var other = new KnowledgeEditor(Small, Weights, words, seed: 4);
        Assert.Equal(0, (first.Parameters["condition.embedding.weight"] - words).abs().max().item<float>());
        Assert.Equal(Update(first), Update(same));
        Assert.NotEqual(Update(first), Update(other));

        static float[] Update(KnowledgeEditor editor)
        {
            using var scope = NewDisposeScope();
            var condition = editor.Condition(tensor([1L, 5, 8, 0], [1, 4]), tensor([1L, 1, 1, 0], [1, 4]));
            var update = editor.Propose(new Dictionary<string, GradientFactors> { ["b.weight"] = new(ones(2, 6), ones(2, 5)) },
                condition)["b.weight"];
            Assert.Equal([5L, 6L], update.ToDense().shape);
            Assert.Equal(3, update.Rank); // a row for each token of the gradient, and the offset
            return update.ToDense().detach().reshape(-1).data<float>().ToArray();
        }
    }

    [Fact]
    public void PaddingBehindTheText_ChangesNothing()
    {
        using var scope = NewDisposeScope();
        using var editor = new KnowledgeEditor(Small, Weights, ones(9, 7), seed: 3);
        var text = editor.Condition(tensor([1L, 5, 8], [1, 3]), tensor([1L, 1, 1], [1, 3]));
        var padded = editor.Condition(tensor([1L, 5, 8, 0, 0], [1, 5]), tensor([1L, 1, 1, 0, 0], [1, 5]));
        Assert.Equal(0, (text - padded).abs().max().item<float>());
    }

    [Fact]
    public void WhatDoesNotFit_IsRefusedByName()
    {
        using var scope = NewDisposeScope();
        using var editor = new KnowledgeEditor(Small, Weights, ones(9, 7), seed: 3);
        Assert.Contains("one edit",
            Refusal.Of(MendError.InvalidOption, () =>
            editor.Condition(zeros([2, 3], ScalarType.Int64), ones([2, 3], ScalarType.Int64))).What, StringComparison.Ordinal);
        var parameters = new Dictionary<string, Tensor>(editor.Parameters);
        parameters.Remove("condition.linear._linear_layers.0.bias");
        Assert.Contains("condition.linear", Refusal.Of(MendError.ModelUnusable, () => new KnowledgeEditor(Small, Weights, parameters)).What,
            StringComparison.Ordinal);
        Assert.Contains("expected [3, 4]",
            Refusal.Of(MendError.ModelUnusable, () => new KnowledgeEditor(Small with { ConditionDim = 4, HiddenDim = 3 },
            Weights, editor.Parameters.ToDictionary(entry => entry.Key, entry => entry.Key.EndsWith("0.weight_v", StringComparison.Ordinal)
                ? ones(4, 4) : entry.Value))).What, StringComparison.Ordinal);
        Refusal.Of(MendError.InvalidOption, () => new Enn(new() { EditSteps = 0 }, []));
        Refusal.Of(MendError.ModelUnusable, () => new Enn(new(), [Weights[0].Weight], ones(2)));
    }
}
