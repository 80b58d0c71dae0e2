using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// Keys and values of the tokens generated so far, per attention layer of one stage, of one answer or of several that go on together: a
/// row for each. They end at the same slot, so shorter answers begin with padding. Belongs to generations at one model version: whoever
/// generates at another version starts another cache, so no answer mixes two.
/// B rows, H heads, L slots, C of them or more made at once, S source tokens, D head size.
/// </summary>
public sealed class KeyValueCache : IDisposable
{
    private const int MinRoom = 8;

    private readonly Dictionary<string, (Tensor Key, Tensor Value)> _decoder = []; // [B, H, C, D], L of C filled
    private readonly Dictionary<string, (Tensor Key, Tensor Value)> _source = [];  // [B, H, S, D], padded on the right
    private readonly IReadOnlyList<long> _sourceTokens;
    private int _held;

    /// <summary>Of one answer.</summary>
    public KeyValueCache() : this([0], [0])
    {
    }

    /// <param name="padding">Slots before each row's first token.</param>
    /// <param name="sourceTokens">Of each row; 0 without an encoder.</param>
    public KeyValueCache(IReadOnlyList<long> padding, IReadOnlyList<long> sourceTokens)
    {
        (Padding, _sourceTokens, _held) = (padding, sourceTokens, padding.Count);
        Rows = [.. padding.Select((_, row) => new KeyValueRow(this, row))];
    }

    /// <summary>Its answers. The tensors are let go with the last of them.</summary>
    public IReadOnlyList<KeyValueRow> Rows { get; }

    /// <summary>Slots before the first token, of each row.</summary>
    public IReadOnlyList<long> Padding { get; }

    /// <summary>Slots for decoder tokens that are filled.</summary>
    public long Length { get; private set; }

    /// <summary>
    /// A cache of just these rows, in this order. Where that is one that is there, it is that one; otherwise keys and values are copied,
    /// and the rows stay what they were.
    /// </summary>
    public static KeyValueCache Of(IReadOnlyList<KeyValueRow> rows)
    {
        if (rows[0].Cache is var first && first._held == first.Rows.Count && first.Rows.SequenceEqual(rows))
            return first;
        using var scope = NewDisposeScope();
        var length = rows.Max(row => row.Tokens);
        var joined = new KeyValueCache([.. rows.Select(row => length - row.Tokens)],
            [.. rows.Select(row => row.Cache._sourceTokens[row.Index])]);
        joined.Advance(length);
        var sourceTokens = joined._sourceTokens.Max();
        foreach (var layer in first._decoder.Keys)
            joined._decoder[layer] = Joined(cache => (cache.Filled(cache._decoder[layer].Key), cache.Filled(cache._decoder[layer].Value)),
                x => Ending(x, length));
        foreach (var layer in first._source.Keys)
            joined._source[layer] = Joined(cache => cache._source[layer], x => Beginning(x, sourceTokens));
        return joined;

        (Tensor, Tensor) Joined(Func<KeyValueCache, (Tensor Key, Tensor Value)> of, Func<Tensor, Tensor> fit)
        {
            var (keys, values) = (new List<Tensor>(), new List<Tensor>());
            for (var next = 0; next < rows.Count;)
            {
                var cache = rows[next].Cache;
                var run = rows.Skip(next).TakeWhile(row => row.Cache == cache).Select(row => (long)row.Index).ToArray();
                var (key, value) = of(cache);
                var places = NewTensor.Of(run, run.Length).On(key.device);
                keys.Add(fit(key.index_select(0, places)));
                values.Add(fit(value.index_select(0, places)));
                next += run.Length;
            }
            return (cat(keys, 0).DetachFromDisposeScope(), cat(values, 0).DetachFromDisposeScope());
        }
    }

    /// <summary>Appends this pass's keys and values and returns all of them.</summary>
    /// <param name="layer">The attention layer's name.</param>
    /// <param name="key">[B, H, T, D].</param>
    /// <param name="value">[B, H, T, D].</param>
    internal (Tensor Key, Tensor Value) Append(string layer, Tensor key, Tensor value)
    {
        var held = _decoder.GetValueOrDefault(layer);
        _decoder[layer] = held = (With(held.Key, key), With(held.Value, value));
        var filled = Length + key.shape[2];
        return (held.Key.narrow(2, 0, filled), held.Value.narrow(2, 0, filled));
    }

    /// <summary>Writes behind what is filled. Where there is no room for it, more is made: a quarter more than is needed.</summary>
    private Tensor With(Tensor? held, Tensor added)
    {
        var needed = Length + added.shape[2];
        if (held is null || held.shape[2] < needed)
        {
            var roomy = empty([added.shape[0], added.shape[1], needed + needed / 4 + MinRoom, added.shape[3]], added.dtype, added.device)
                .DetachFromDisposeScope();
            if (held is not null)
                roomy.narrow(2, 0, Length).copy_(Filled(held));
            held?.Dispose();
            held = roomy;
        }
        held.narrow(2, Length, added.shape[2]).copy_(added);
        return held;
    }

    private Tensor Filled(Tensor held) => held.narrow(2, 0, Length);

    /// <summary>Keys and values that never grow: those of the encoder's output.</summary>
    internal (Tensor Key, Tensor Value) GetOrAdd(string layer, Func<(Tensor Key, Tensor Value)> make)
    {
        if (!_source.TryGetValue(layer, out var held))
        {
            var (key, value) = make();
            _source[layer] = held = (key.clone().DetachFromDisposeScope(), value.clone().DetachFromDisposeScope());
        }
        return held;
    }

    /// <summary>Called once at the end of a pass over this stage's layers.</summary>
    internal void Advance(long tokens) => Length += tokens;

    internal void LetGo()
    {
        if (--_held == 0)
            Dispose();
    }

    public void Dispose()
    {
        foreach (var (key, value) in _decoder.Values.Concat(_source.Values))
        {
            key.Dispose();
            value.Dispose();
        }
        _decoder.Clear();
        _source.Clear();
    }

    /// <summary>The last slots; before the first, zeros.</summary>
    private static Tensor Ending(Tensor x, long length) => x.shape[2] >= length ? x.narrow(2, x.shape[2] - length, length)
        : cat([Zeros(x, length - x.shape[2]), x], 2);

    /// <summary>The first slots; after the last, zeros.</summary>
    private static Tensor Beginning(Tensor x, long length) => x.shape[2] >= length ? x.narrow(2, 0, length)
        : cat([x, Zeros(x, length - x.shape[2])], 2);

    private static Tensor Zeros(Tensor like, long length) =>
        zeros([like.shape[0], like.shape[1], length, like.shape[3]], like.dtype, like.device);
}

/// <summary>What a cache holds of one answer.</summary>
public sealed class KeyValueRow : IDisposable
{
    private bool _isLetGo;

    internal KeyValueRow(KeyValueCache cache, int index) => (Cache, Index) = (cache, index);

    public KeyValueCache Cache { get; }

    public int Index { get; }

    /// <summary>Decoder tokens whose keys and values are held.</summary>
    public long Tokens => Cache.Length - Cache.Padding[Index];

    /// <summary>The answer needs it no longer.</summary>
    public void Dispose()
    {
        if (_isLetGo)
            return;
        _isLetGo = true;
        Cache.LetGo();
    }
}
