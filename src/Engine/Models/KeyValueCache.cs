using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// Keys and values of the tokens generated so far, per attention layer of one stage. Belongs to one generation at one model version:
/// whoever generates at another version starts another cache, so no answer mixes two.
/// </summary>
public sealed class KeyValueCache : IDisposable
{
    private readonly Dictionary<string, (Tensor Key, Tensor Value)> _entries = [];

    /// <summary>Decoder tokens whose keys and values are held.</summary>
    public long Length { get; private set; }

    /// <summary>Appends this pass's keys and values and returns all of them.</summary>
    /// <param name="layer">The attention layer's name.</param>
    /// <param name="key">[B, H, T, D].</param>
    /// <param name="value">[B, H, T, D].</param>
    internal (Tensor Key, Tensor Value) Append(string layer, Tensor key, Tensor value)
    {
        if (_entries.TryGetValue(layer, out var held))
        {
            key = cat([held.Key, key], 2);
            value = cat([held.Value, value], 2);
            held.Key.Dispose();
            held.Value.Dispose();
        }
        else
        {
            key = key.clone(); // may be a view of a tensor that the caller's scope disposes of
            value = value.clone();
        }
        _entries[layer] = (key.DetachFromDisposeScope(), value.DetachFromDisposeScope());
        return (key, value);
    }

    /// <summary>Keys and values that never grow: those of the encoder's output.</summary>
    internal (Tensor Key, Tensor Value) GetOrAdd(string layer, Func<(Tensor Key, Tensor Value)> make)
    {
        if (!_entries.TryGetValue(layer, out var held))
        {
            var (key, value) = make();
            _entries[layer] = held = (key.clone().DetachFromDisposeScope(), value.clone().DetachFromDisposeScope());
        }
        return held;
    }

    /// <summary>Called once at the end of a pass over this stage's layers.</summary>
    internal void Advance(long tokens) => Length += tokens;

    public void Dispose()
    {
        foreach (var (key, value) in _entries.Values)
        {
            key.Dispose();
            value.Dispose();
        }
        _entries.Clear();
    }
}
