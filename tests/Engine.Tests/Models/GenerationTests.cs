using MendCluster.Engine.Models;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

public class GenerationTests
{
    public static TheoryData<string> Families => [.. TinyModel.Families];

    /// <summary>The keys and values that are kept must give what a fresh pass over all tokens gives.</summary>
    [Theory]
    [MemberData(nameof(Families))]
    public void GreedyGeneration_IsTheArgmaxOfFreshPasses(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load(family);
        using var _ = no_grad();
        int[] prompt = [5, 9, 33, 70];
        var generated = Generation.Run(stage, prompt, new(MaxTokens: 12));
        var plain = new List<int>();
        while (plain.Count < 12)
        {
            long[] decoder = [stage.Family.DecoderStartId ?? 0, .. plain.Select(id => (long)id)];
            long[] ids = stage.Family.IsEncoderDecoder ? [5, 9, 33, 70] : [5, 9, 33, 70, .. plain.Select(id => (long)id)];
            var input = new ModelInput(tensor(ids, [1, ids.Length]), ones([1, ids.Length], ScalarType.Int64),
                stage.Family.IsEncoderDecoder ? tensor(decoder, [1, decoder.Length]) : null);
            var top = stage.Forward(Activations.None, new ForwardContext(input));
            var next = (int)stage.Logits(top, tensor(new[] { top.Hidden!.shape[1] - 1 })).argmax().item<long>();
            if (stage.Family.EosIds.Contains(next))
                break;
            plain.Add(next);
        }
        Assert.Equal(plain, generated);
        Assert.NotEmpty(generated);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void SampledGeneration_DependsOnTheSeedAlone(string family)
    {
        using var stage = TinyModel.Load(family);
        IReadOnlyList<int> Sample(int seed, double temperature = 1.5, int topK = 0, double topP = 1) =>
            Generation.Run(stage, [5, 9, 33], new(MaxTokens: 16, temperature, topK, topP, seed));
        Assert.Equal(Sample(1), Sample(1));
        Assert.Contains(Enumerable.Range(2, 8), seed => !Sample(seed).SequenceEqual(Sample(1)));
        var greedy = Generation.Run(stage, [5, 9, 33], new(MaxTokens: 16));
        Assert.Equal(greedy, Sample(3, topK: 1));
        Assert.Equal(greedy, Sample(3, topP: 1e-9));
        Assert.All([1e-5, 1e-38, 1e-39, 1e-300, double.Epsilon], temperature => Assert.Equal(greedy, Sample(3, temperature)));
    }

    [Fact]
    public void Generation_StopsAtTheContextsEnd()
    {
        using var stage = TinyModel.Load("gpt2"); // 64 positions
        var tokens = Generation.Run(stage, [.. Enumerable.Repeat(7, 60)], new(MaxTokens: 100, Temperature: 5, Seed: 3));
        Assert.InRange(tokens.Count, 0, 4);
    }
}
