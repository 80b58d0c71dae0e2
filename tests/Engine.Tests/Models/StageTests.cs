using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

public class StageTests
{
    public static TheoryData<string> Families => [.. TinyModel.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public void APipelineOfAnyLength_ComputesTheBitsOfTheWholeModel(string family)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var whole = TinyModel.Load(family);
        var model = whole.Family;
        var ids = tensor([5L, 9, 33, 70, 8, 21, 12, 13, 14, model.PadId, model.PadId, model.PadId], [2, 6]);
        var mask = tensor([1L, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [2, 6]);
        var input = new ModelInput(ids, mask, model.IsEncoderDecoder ? ids : null, model.IsEncoderDecoder ? mask : null);
        var expected = whole.Logits(whole.Forward(Activations.None, new ForwardContext(input)), NewTensor.Arange(0, 12, ScalarType.Int64));
        for (var count = 1; count <= model.LayerNames.Count; count++)
        {
            var activations = Activations.None;
            Tensor? logits = null;
            foreach (var range in StageRange.Split(model.LayerNames.Count, count, range => range.Count))
            {
                using var stage = Stage.Load(model, range, new Given(whole.Weights), []);
                Assert.All(stage.Weights.Loaded.Keys, name => Assert.Contains(name, whole.Weights.Loaded.Keys));
                activations = stage.Forward(activations, new ForwardContext(input));
                logits = stage.Head is null ? null : stage.Logits(activations, NewTensor.Arange(0, 12, ScalarType.Int64));
            }
            Assert.Equal(0, (expected - logits!).abs().max().item<float>());
        }
    }

    /// <summary>Another stage's weights, as a checkpoint would hold them.</summary>
    private sealed class Given(WeightSource weights) : WeightSource(ScalarType.Float32)
    {
        protected override Tensor Read(string name, long[] shape, ScalarType dtype) => weights.Loaded[name].AsStored().clone();
    }
}
