using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Draws tokens from logits; one per generation.</summary>
/// <param name="options">All but the scope, which chooses the edits.</param>
public sealed class TokenSampler(AskOptions options)
{
    private readonly Random _random = new(options.Seed);

    /// <param name="logits">[V].</param>
    public int Pick(Tensor logits)
    {
        using var scope = NewDisposeScope();
        if (options.Temperature <= 0)
            return (int)logits.argmax().Host().item<long>();
        var kept = options.TopK > 0 ? Math.Min(options.TopK, logits.shape[0]) : logits.shape[0];
        var (values, ids) = logits.to_type(ScalarType.Float32).topk((int)kept, 0);
        var highestFirst = values.Host().data<float>().ToArray();
        // Below the highest and in float64: divided in float32, by a small temperature they would be infinite.
        var weights = Array.ConvertAll(highestFirst, logit => Math.Exp(((double)logit - highestFirst[0]) / options.Temperature));
        var (count, mass, enough) = (0, 0.0, options.TopP * weights.Sum());
        while (count < weights.Length && (count == 0 || mass < enough))
            mass += weights[count++];
        var drawn = _random.NextDouble() * mass;
        var choice = 0;
        while (choice < count - 1 && (drawn -= weights[choice]) >= 0)
            choice++;
        return (int)ids.select(0, choice).Host().item<long>();
    }
}

/// <summary>
/// The bookkeeping of one generation: what each pass over the model reads and when to stop. Knows no weights, so the same object drives
/// a whole model and a pipeline of stages.
/// </summary>
/// <param name="family">Of the model.</param>
/// <param name="prompt">Token ids of the prompt, at least one.</param>
public sealed class Generation(ModelFamily family, IReadOnlyList<int> prompt, AskOptions options)
{
    private readonly TokenSampler _sampler = new(options);
    private readonly List<int> _tokens = [];

    /// <summary>Tokens generated so far, without the end-of-sequence token. A classifier's only one is the class.</summary>
    public IReadOnlyList<int> Tokens => _tokens;

    public bool IsDone { get; private set; } = options.MaxTokens < 1;

    /// <summary>What the next pass reads: everything at first, then the newest token alone.</summary>
    public (int[] InputIds, int[]? DecoderInputIds, int Keys) Next()
    {
        int[] fed = _tokens.Count == 0 ? [.. prompt] : [_tokens[^1]];
        return family.IsEncoderDecoder
            ? ([.. prompt], _tokens.Count == 0 ? [.. family.DecoderPrefix] : fed, prompt.Count)
            : (fed, null, prompt.Count + _tokens.Count);
    }

    /// <summary>The same as tensors.</summary>
    public ModelInput NextInput()
    {
        var (ids, decoderIds, keys) = Next();
        return new(Row(ids), ones([1, keys], ScalarType.Int64, CPU), decoderIds is null ? null : Row(decoderIds));
    }

    /// <summary>Chooses a token from the logits of the last position.</summary>
    /// <param name="logits">[V].</param>
    public void Take(Tensor logits) => Take(_sampler.Pick(logits));

    /// <summary>Takes a token that was chosen elsewhere.</summary>
    public void Take(int token)
    {
        if (family.EosIds.Contains(token))
            IsDone = true;
        else
            _tokens.Add(token);
        var taken = (family.IsEncoderDecoder ? family.DecoderPrefix.Count : prompt.Count) + _tokens.Count;
        IsDone |= family.Labels is not null || _tokens.Count >= options.MaxTokens || taken >= (family.MaxPositions ?? long.MaxValue);
    }

    /// <summary>Generates on a whole model.</summary>
    public static IReadOnlyList<int> Run(Stage stage, IReadOnlyList<int> prompt, AskOptions options, WeightUpdates? edits = null)
    {
        using var _ = no_grad();
        using var cache = new KeyValueCache();
        var generation = new Generation(stage.Family, prompt, options);
        while (!generation.IsDone)
        {
            using var scope = NewDisposeScope();
            var top = stage.Forward(Activations.None, new ForwardContext(generation.NextInput(), edits, cache: cache)).Hidden!; // [1, T, C]
            generation.Take(stage.Head!.Logits(top.select(1, top.shape[1] - 1)).squeeze(0));
        }
        return generation.Tokens;
    }

    private static Tensor Row(int[] ids) => tensor(Array.ConvertAll(ids, id => (long)id), device: CPU).unsqueeze(0);
}
