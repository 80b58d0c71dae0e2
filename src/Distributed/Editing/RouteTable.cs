using System.Collections.Concurrent;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using MendCluster.Contracts;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Which edit of a model that routes them a question sees: the one whose key is nearest to the question's own, if it is near enough for the
/// router; of several that are about as near the newest, for they say the same fact anew. Keys of edits are in the ledger.
/// </summary>
public sealed class RouteTable : IDisposable
{
    /// <summary>Edits whose cosines differ by no more are about as near.</summary>
    private const float Margin = 0.1f;

    private readonly ConcurrentDictionary<EditId, float[]> _keys = [];
    private readonly EditRouter _router;
    private readonly byte[] _model;
    private volatile View _view = new(ModelVersion.Base, []);

    /// <param name="router">The table owns it.</param>
    /// <param name="fingerprint">Of the model.</param>
    internal RouteTable(EditRouter router, byte[] fingerprint) => (_router, _model) = (router, fingerprint);

    /// <summary>
    /// What a ledger of routed edits names in the place of its model's fingerprint: with another router, or with none, other questions
    /// would see its edits.
    /// </summary>
    public byte[] LedgerFingerprint => SHA256.HashData([.. _model, .. _router.Digest()]);

    /// <summary>The router in a model's directory; null where it has none.</summary>
    /// <inheritdoc cref="Open"/>
    public static RouteTable? Beside(string model, ModelText text, byte[] fingerprint) =>
        EditRouter.Beside(model) is { } file ? Open(file, text, fingerprint) : null;

    /// <param name="fingerprint">Of the model.</param>
    /// <exception cref="MendException">It is not this model's, or cannot be read; or the model writes no answers.</exception>
    public static RouteTable Open(string file, ModelText text, byte[] fingerprint) => text.Family.Labels is not null
        ? throw new MendException(MendError.InvalidOption, "The model is a classifier, and was given a router.",
            "Edits are routed by the answer that a model is about to write; leave the router out.")
        : new(ModelText.Reading(() => EditRouter.Load(file, fingerprint), $"The router {file} cannot be used",
            "Name a router that was trained for this model, or train one: mend train-router."), fingerprint);

    /// <summary>The key of a question.</summary>
    /// <param name="state">Of the unedited model before the first token of its answer. [S] float32.</param>
    /// <returns>[D], of length 1.</returns>
    internal float[] Key(WireTensor state)
    {
        using var scope = NewDisposeScope();
        return _router.Keys(WireTensorCodec.Decode(state).reshape(1, -1)).Host().data<float>().ToArray();
    }

    /// <param name="keys">Of an edit's prompt, then of rewordings. [D] each.</param>
    internal static EditRoute Route(IReadOnlyList<float[]> keys) => new(keys.Count)
    {
        Vectors = Convert.ToBase64String(MemoryMarshal.AsBytes<float>(keys.SelectMany(key => key).ToArray())),
    };

    /// <summary>The edit that a question sees; null: none.</summary>
    /// <param name="entries">Of the ledger; later ones than the version are passed over.</param>
    /// <param name="scope">Whose edits are seen beside those for everybody, and before these.</param>
    internal EditId? Match(ReadOnlySpan<float> question, IReadOnlyList<LedgerEntry> entries, ModelVersion version, string? scope) =>
        Best(question, entries, version, scope) is [.., var seen] ? seen.Edit.Id : null;

    /// <summary>Whether a question would see an edit of this scope, were it the newest.</summary>
    /// <param name="candidate">The edit's keys.</param>
    internal bool WouldMatch(ReadOnlySpan<float> question, IReadOnlyList<float[]> candidate, IReadOnlyList<LedgerEntry> entries,
        ModelVersion version, string? scope)
    {
        var own = float.NegativeInfinity;
        foreach (var key in candidate)
            own = Math.Max(own, Dot(question, key));
        if (own < _router.Threshold)
            return false;
        var others = Best(question, entries, version, scope);
        return others.Count == 0 || own >= others.Max(other => other.Cosine) - Margin;
    }

    public void Dispose() => _router.Dispose();

    /// <returns>Those that are about as near as the nearest: what is seen comes last.</returns>
    private List<(RoutedEdit Edit, float Cosine)> Best(ReadOnlySpan<float> question, IReadOnlyList<LedgerEntry> entries,
        ModelVersion version, string? scope)
    {
        var found = new List<(RoutedEdit Edit, float Cosine)>();
        foreach (var edit in At(entries, version).Edits)
        {
            if (edit.Scope is not null && edit.Scope != scope)
                continue;
            var nearest = float.NegativeInfinity;
            for (var at = 0; at < edit.Keys.Length; at += question.Length)
                nearest = Math.Max(nearest, Dot(question, edit.Keys.AsSpan(at, question.Length)));
            if (nearest >= _router.Threshold)
                found.Add((edit, nearest));
        }
        if (found.Count == 0)
            return found;
        var best = found.Max(match => match.Cosine);
        return [.. found.Where(match => match.Cosine >= best - Margin).OrderBy(match => match.Edit.Scope is not null)
            .ThenBy(match => match.Edit.Id.Value)];
    }

    private View At(IReadOnlyList<LedgerEntry> entries, ModelVersion version)
    {
        var known = _view;
        if (known.Version == version)
            return known;
        var made = new View(version, [.. EditCoordinator.InForce([.. entries.TakeWhile(entry => entry.Version <= version)])
            .Where(entry => entry.Route is not null)
            .Select(entry => new RoutedEdit(entry.Edit, entry.Scope, _keys.GetOrAdd(entry.Edit, _ => Vectors(entry))))]);
        return version > known.Version ? _view = made : made;
    }

    private float[] Vectors(LedgerEntry entry)
    {
        var bytes = Convert.FromBase64String(entry.Route!.Vectors);
        return bytes.Length == entry.Route.Keys * _router.Dimensions * sizeof(float) ? MemoryMarshal.Cast<byte, float>(bytes).ToArray()
            : throw new MendException(MendError.LedgerUnusable,
                $"Version {entry.Version} of the ledger has {bytes.Length} bytes of keys, expected {entry.Route.Keys} of "
                + $"{_router.Dimensions} numbers.",
                "Restore the ledger from a copy.");
    }

    private static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        var left = MemoryMarshal.Cast<float, Vector<float>>(a);
        var right = MemoryMarshal.Cast<float, Vector<float>>(b);
        var sums = Vector<float>.Zero;
        for (var i = 0; i < left.Length; i++)
            sums += left[i] * right[i];
        var sum = Vector.Sum(sums);
        for (var i = left.Length * Vector<float>.Count; i < a.Length; i++)
            sum += a[i] * b[i];
        return sum;
    }

    private sealed record RoutedEdit(EditId Id, string? Scope, float[] Keys);

    private sealed record View(ModelVersion Version, IReadOnlyList<RoutedEdit> Edits);
}
