using MendCluster.Contracts;

// KnowledgeEditor (De Cao, Aziz and Titov, 2021), as the paper's EFK baseline (mend-spec 7.4): a network reads the edit's text and makes,
// for each weight, a mask and an offset of rank one for the raw gradient: W' = W + sigmoid(g) (dL/dW * A + B), A = softmax(ra)^T ca, B =
// softmax(rb)^T cb. Since dL/dW = delta^T u, masking it by A scales the rows of delta and u, and B is one row more: no matrix of a weight's
// size is formed. T tokens of the edit's text, V words, C embedding, H hidden size, K condition; a weight is [p0, p1] as its checkpoint
// stores it.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors.Baselines;

/// <summary>A weight that the KnowledgeEditor changes.</summary>
/// <param name="IsTransposed">Whether its checkpoint stores [in, out] (Conv1D), which settles what is a row and what a column.</param>
public sealed record KnowledgeEditorWeight(EditableWeight Weight, bool IsTransposed)
{
    internal string Prefix => $"conditioners.{Weight.Name.Replace('.', '_')}_conditioner.conditioners";

    internal (long Rows, long Columns) Shape => IsTransposed ? (Weight.InFeatures, Weight.OutFeatures)
        : (Weight.OutFeatures, Weight.InFeatures);
}

public sealed class KnowledgeEditor : IDisposable
{
    private readonly KnowledgeEditorOptions _options;
    private readonly IReadOnlyList<KnowledgeEditorWeight> _weights;
    private readonly SortedDictionary<string, Tensor> _parameters = new(StringComparer.Ordinal);

    /// <summary>A new editor.</summary>
    /// <param name="embeddings">[V, C], the language model's: the LSTM's words begin as its. The editor is on their device.</param>
    public KnowledgeEditor(KnowledgeEditorOptions options, IReadOnlyList<KnowledgeEditorWeight> weights, Tensor embeddings, long seed)
        : this(options, weights, InitialParameters(options.Validated(), weights, embeddings, seed))
    {
    }

    /// <param name="parameters">By the published code's names; copied. The editor is on the device that they are on.</param>
    /// <exception cref="MendException">One is missing or has another shape.</exception>
    public KnowledgeEditor(KnowledgeEditorOptions options, IReadOnlyList<KnowledgeEditorWeight> weights,
        IReadOnlyDictionary<string, Tensor> parameters)
    {
        (_options, _weights) = (options.Validated(), weights);
        foreach (var (name, shape) in Shapes(options, weights))
        {
            if (!parameters.TryGetValue(name, out var value))
                throw Fault.Editor($"the KnowledgeEditor has no {name}; it was made for other weights");
            if (value.shape.Length != shape.Length || shape.Zip(value.shape).Any(size => size.First >= 0 && size.First != size.Second))
                throw Fault.Editor($"{name} is [{string.Join(", ", value.shape)}], expected [{string.Join(", ", shape)}] (-1: any)");
            _parameters[name] = value.KeptCopy(ScalarType.Float32).requires_grad_();
        }
    }

    /// <summary>All that is trained.</summary>
    public IReadOnlyDictionary<string, Tensor> Parameters => _parameters;

    /// <summary>What the network makes of the edit's text.</summary>
    /// <param name="ids">[1, T] int64, on the host: prompt, old and new answer.</param>
    /// <param name="mask">[1, T], on the host, 1 = token; padding on the right.</param>
    /// <returns>[1, K].</returns>
    public Tensor Condition(Tensor ids, Tensor mask)
    {
        if (ids.shape[0] != 1)
            throw Fault.Setting($"the KnowledgeEditor reads one edit at a time, not {ids.shape[0]}");
        var embedding = this["condition.embedding.weight"];
        var tokens = ids.reshape(-1).narrow(0, 0, mask.sum([1]).Host().item<long>()).On(embedding.device); // [T]
        var words = embedding.index_select(0, tokens);                                                // [T, C]
        // word 0 is padding and is not trained
        words = where(tokens.Eq(0).unsqueeze(1), words.detach(), words);
        var read = cat([Lstm(words, "", reverse: false), Lstm(words, "_reverse", reverse: true)], 1); // [1, 2H]
        return nn.functional.linear(read, this["condition.linear._linear_layers.0.weight"],
            this["condition.linear._linear_layers.0.bias"]).tanh();
    }

    /// <summary>The update for each weight that has factors; carries the graph to <see cref="Parameters"/>.</summary>
    /// <param name="condition">[1, K].</param>
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors, Tensor condition) =>
        _weights.Where(weight => factors.ContainsKey(weight.Weight.Name)).ToDictionary(weight => weight.Weight.Name, weight =>
        {
            var (rows, columns) = weight.Shape;
            var hidden = WeightNormed(condition, weight.Prefix + ".0").tanh();
            var made = WeightNormed(hidden, weight.Prefix + ".2");                                     // [1, 2 (p0 + p1) + 1]
            var maskColumns = made.narrow(1, 0, columns);
            var maskRows = made.narrow(1, columns, rows).softmax(1);
            var offsetColumns = made.narrow(1, columns + rows, columns);
            var offsetRows = made.narrow(1, 2 * columns + rows, rows).softmax(1);
            var scale = made.narrow(1, 2 * (columns + rows), 1).sigmoid().reshape(Array.Empty<long>()).Times(_options.MaxScale);

            var (u, delta) = factors[weight.Weight.Name];
            var (maskU, maskDelta, offsetU, offsetDelta) = weight.IsTransposed
                ? (maskRows, maskColumns, offsetRows, offsetColumns)
                : (maskColumns, maskRows, offsetColumns, offsetRows);
            return new LowRankUpdate(cat([u * maskU, offsetU], 0), cat([delta * maskDelta, offsetDelta], 0), -scale);
        });

    public void Dispose()
    {
        foreach (var parameter in _parameters.Values)
            parameter.Dispose();
    }

    private Tensor this[string name] => _parameters[name];

    /// <summary>The last state of an LSTM that starts from zero; gates in the order input, forget, cell, output.</summary>
    private Tensor Lstm(Tensor words, string direction, bool reverse)
    {
        Tensor Of(string part) => this[$"condition.lstm._module.{part}_l0{direction}"];
        var H = Of("weight_hh").shape[1];
        var fromWords = nn.functional.linear(words, Of("weight_ih"), Of("bias_ih").Plus(Of("bias_hh"))); // [T, 4H]
        var (h, c) = (zeros([1, H], device: words.device), zeros([1, H], device: words.device));
        for (long step = 0, T = words.shape[0]; step < T; step++)
        {
            var gates = fromWords.narrow(0, reverse ? T - 1 - step : step, 1).Plus(h.mm(Of("weight_hh").t()));
            Tensor Gate(int i) => gates.narrow(1, i * H, H);
            c = (Gate(1).sigmoid() * c).Plus(Gate(0).sigmoid() * Gate(2).tanh());
            h = Gate(3).sigmoid() * c.tanh();
        }
        return h;
    }

    /// <summary>A linear map whose rows are g v / |v|.</summary>
    private Tensor WeightNormed(Tensor x, string layer)
    {
        var v = this[layer + ".weight_v"];
        return nn.functional.linear(x, v * (this[layer + ".weight_g"] / (v * v).sum([1], true).sqrt()), this[layer + ".bias"]);
    }

    /// <summary>How many numbers are trained; nothing is made.</summary>
    /// <param name="embeddings">The model's, [V, C].</param>
    internal static long ParametersOf(KnowledgeEditorOptions options, IReadOnlyList<KnowledgeEditorWeight> weights, Tensor embeddings) =>
        embeddings.numel() + Shapes(options, weights).Skip(1)
            .Sum(parameter => parameter.Shape.Aggregate(1L, (size, length) => size * (length < 0 ? embeddings.shape[1] : length)));

    /// <summary>Names and shapes, the embedding's first; -1: any size.</summary>
    private static IEnumerable<(string Name, long[] Shape)> Shapes(KnowledgeEditorOptions options,
        IReadOnlyList<KnowledgeEditorWeight> weights)
    {
        long H = options.HiddenDim, K = options.ConditionDim;
        yield return ("condition.embedding.weight", [-1, -1]);
        foreach (var direction in new[] { "", "_reverse" })
        {
            yield return ($"condition.lstm._module.weight_ih_l0{direction}", [4 * H, -1]);
            yield return ($"condition.lstm._module.weight_hh_l0{direction}", [4 * H, H]);
            yield return ($"condition.lstm._module.bias_ih_l0{direction}", [4 * H]);
            yield return ($"condition.lstm._module.bias_hh_l0{direction}", [4 * H]);
        }
        yield return ("condition.linear._linear_layers.0.weight", [K, 2 * H]);
        yield return ("condition.linear._linear_layers.0.bias", [K]);
        foreach (var weight in weights)
        {
            var outputs = 2 * (weight.Shape.Rows + weight.Shape.Columns) + 1;
            foreach (var (layer, n, m) in new[] { (".0", H, K), (".2", outputs, H) })
            {
                yield return (weight.Prefix + layer + ".weight_v", [n, m]);
                yield return (weight.Prefix + layer + ".weight_g", [n, 1]);
                yield return (weight.Prefix + layer + ".bias", [n]);
            }
        }
    }

    /// <summary>PyTorch's own beginnings: uniform within 1/sqrt(H) for the LSTM, within 1/sqrt(inputs) for linear maps.</summary>
    private static Dictionary<string, Tensor> InitialParameters(
        KnowledgeEditorOptions options, IReadOnlyList<KnowledgeEditorWeight> weights, Tensor embeddings, long seed)
    {
        using var random = new Generator((ulong)seed);
        var parameters = new Dictionary<string, Tensor>();
        foreach (var (name, shape) in Shapes(options, weights))
        {
            if (name == "condition.embedding.weight")
            {
                parameters[name] = embeddings;
                continue;
            }
            long[] size = [.. shape.Select(length => length < 0 ? embeddings.shape[1] : length)];
            var inputs = name.Contains(".lstm.", StringComparison.Ordinal) ? options.HiddenDim
                : name.EndsWith("conditioners.2.bias", StringComparison.Ordinal) ? options.HiddenDim
                : name.EndsWith("conditioners.0.bias", StringComparison.Ordinal) ? options.ConditionDim
                : name.EndsWith(".bias", StringComparison.Ordinal) ? 2 * options.HiddenDim
                : size[^1];
            parameters[name] = name.EndsWith(".weight_g", StringComparison.Ordinal)
                ? (parameters[name[..^1] + "v"] * parameters[name[..^1] + "v"]).sum([1], true).sqrt() // so that the weight begins as v
                : NewTensor.Uniform(size, random).On(embeddings.device).Times(2).Minus(1).Over(Math.Sqrt(inputs));
        }
        return parameters;
    }
}
