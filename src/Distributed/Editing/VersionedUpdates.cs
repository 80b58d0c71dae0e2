using System.Security.Cryptography;
using System.Text;
using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// The updates that are in force on one stage, for each of the last few versions: the state of the state machine over the ledger.
///
/// Per scope and weight there is one update of all active edits in the order of the ledger (<see cref="FoldedEdits"/>). It depends on the
/// list of active edits alone, not on how that came about; so a shard that applied and took back edits one by one, one that read the ledger
/// after a restart, and one that was moved compute the same bits. A record is applied to whatever weight it names; one that names a weight
/// which the model has not, or has in another shape, is refused. A weight without an active edit takes the same path as in the base model.
/// </summary>
/// <param name="stage">The stage's number, for errors.</param>
/// <param name="model">The model's directory, for errors.</param>
/// <param name="linears">Every map of the model, on any stage.</param>
/// <param name="own">Those of this stage.</param>
internal sealed class VersionedUpdates(
    int stage, string model, IReadOnlyDictionary<string, LinearShape> linears, IReadOnlySet<string> own, Device device) : IDisposable
{
    /// <summary>Versions that a read which is on its way may still ask for; one that has begun here keeps its own.</summary>
    private const int VersionsKept = 4;

    private readonly SortedDictionary<long, UpdatesAtVersion> _versions = new() { [0] = new(EditsInForce<ActiveEdit>.None, device) };

    /// <summary>The newest.</summary>
    public ModelVersion Version { get; private set; } = ModelVersion.Base;

    /// <summary>Of the updates in force, in their order: SHA-256 in hexadecimal digits.</summary>
    public string Checksum =>
        Convert.ToHexStringLower(SHA256.HashData([.. _versions[Version.Value].Active.SelectMany(edit => edit.Digest)]));

    /// <exception cref="MendException"><see cref="MendError.VersionBehind"/> or <see cref="MendError.VersionGone"/>.</exception>
    public UpdatesAtVersion At(ModelVersion version)
    {
        if (version > Version)
            throw new MendException(MendError.VersionBehind, $"Stage {stage} is at version {Version}, the request at {version}.",
                "Give it the records that it lacks.");
        return _versions.TryGetValue(version.Value, out var kept) ? kept
            : throw new MendException(MendError.VersionGone, $"Stage {stage} is at version {Version} and no longer has {version}.",
                "Ask again at the newest version.");
    }

    /// <summary>
    /// Takes in the next records, all or none: everything that can fail comes before the first thing that is kept. The versions between are
    /// nobody's to ask for, and are not made.
    /// </summary>
    /// <exception cref="MendException">A version is not the next, or a record does not fit the model or what is in force.</exception>
    public void Apply(IReadOnlyList<LedgerRecord> records)
    {
        var (version, before) = (Version, _versions[Version.Value].InForce);
        var inForce = before;
        foreach (var record in records)
        {
            var entry = record.Entry;
            if (entry.Version != version.Next())
                throw new MendException(MendError.VersionGap, $"Stage {stage} is at version {version} and was given {entry.Version}.",
                    "Give it the records between.");
            version = entry.Version;
            inForce = Plus(inForce, record);
        }
        var edits = Of(inForce, _versions.Values);
        try
        {
            _ = edits.For(null); // what cannot be stacked is refused now
        }
        catch
        {
            edits.Dispose();
            throw;
        }

        foreach (var tensor in inForce.All.Except(before.All).SelectMany(edit => edit.Tensors))
            tensor.DetachFromDisposeScope();
        (Version, _versions[version.Value]) = (version, edits);
        DropOld();
    }

    /// <summary>Some edits of this model.</summary>
    /// <param name="known">Others, from which what is alike is taken.</param>
    public UpdatesAtVersion Of(EditsInForce<ActiveEdit> edits, params IReadOnlyCollection<UpdatesAtVersion> known) => new(edits, device, known);

    /// <summary>Takes in what of a record concerns this stage; its tensors live in the caller's scope.</summary>
    public EditsInForce<ActiveEdit> Plus(EditsInForce<ActiveEdit> inForce, LedgerRecord record) =>
        inForce.Plus(record, (scope, changes) => Active(record.Entry, scope, changes));

    /// <summary>
    /// Drops all but the newest few versions, and those that a session reads: an answer must not starve because edits are quicker than it.
    /// </summary>
    public void DropOld()
    {
        foreach (var (version, old) in _versions.SkipLast(VersionsKept).Where(entry => entry.Value.Readers == 0).ToList())
        {
            _versions.Remove(version);
            Release(old.InForce.All.Except(_versions.Values.SelectMany(other => other.InForce.All)));
            old.Dispose();
        }
    }

    /// <inheritdoc cref="UpdatesAtVersion.TrimRoutes"/>
    public void TrimRoutes()
    {
        foreach (var version in _versions.Values)
            version.TrimRoutes();
    }

    public void Dispose()
    {
        Release(_versions.Values.SelectMany(version => version.InForce.All).Distinct());
        foreach (var version in _versions.Values)
            version.Dispose();
    }

    private static void Release(IEnumerable<ActiveEdit> edits)
    {
        foreach (var tensor in edits.SelectMany(edit => edit.Tensors))
            tensor.Dispose();
    }

    /// <param name="entry">Of the record that the changes are of, for errors.</param>
    private ActiveEdit Active(LedgerEntry entry, string? scope, IEnumerable<WeightChange> changes)
    {
        List<WeightChange> kept = [.. changes.Where(change => IsOwn(entry, change))];
        return new(scope, kept.ToDictionary(change => change.Weight, change =>
            new LowRankUpdate(Factor(change.UTilde), Factor(change.DeltaTilde), tensor(change.Alpha, device: CPU))),
            Digest(scope, kept, entry.Route), entry.Route is null ? null : entry.Edit,
            kept.Where(change => change.Keys is not null).ToDictionary(change => change.Weight, change => Factor(change.Keys!)));
    }

    private static Tensor Factor(WireTensor wire) => WireTensorCodec.Decode(wire).to_type(ScalarType.Float32);

    /// <summary>Whether a change is of this stage's part of the model.</summary>
    /// <exception cref="MendException">It is of no part.</exception>
    private bool IsOwn(LedgerEntry entry, WeightChange change)
    {
        if (!linears.TryGetValue(change.Weight, out var linear))
            throw Inapplicable(entry, $"changes {change.Weight}, which the model in {model} does not have");
        var (u, delta) = (change.UTilde.Shape, change.DeltaTilde.Shape);
        if (u is not [var rows, var m] || delta is not [var same, var n] || rows != same
            || (m, n) != (linear.InFeatures, linear.OutFeatures))
            throw Inapplicable(entry, $"changes {change.Weight} by factors of [{string.Join(", ", u)}] and [{string.Join(", ", delta)}], "
                + $"the weight in {model} is [{linear.OutFeatures}, {linear.InFeatures}]");
        if (change.Keys is { Shape: var keys } && (keys is not [_, var read] || read != m))
            throw Inapplicable(entry, $"has keys of [{string.Join(", ", keys)}] of {change.Weight}, which has {m} in-features");
        return own.Contains(change.Weight);
    }

    private static MendException Inapplicable(LedgerEntry entry, string why) =>
        new(MendError.LedgerUnusable, $"Version {entry.Version} of the ledger {why}.",
        "Open the model that the ledger was made with, or another ledger.");

    /// <summary>
    /// Of one edit's part on this stage. The edit's number is left out: the same updates in the same order compute the same.
    /// </summary>
    private static byte[] Digest(string? scope, IEnumerable<WeightChange> changes, EditRoute? route)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(scope ?? ""));
        if (route is not null)
            hash.AppendData(Convert.FromBase64String(route.Vectors));
        foreach (var change in changes.OrderBy(change => change.Weight, StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(change.Weight));
            hash.AppendData(BitConverter.GetBytes(change.Alpha));
            hash.AppendData(change.UTilde.Bytes.Span);
            hash.AppendData(change.DeltaTilde.Bytes.Span);
            hash.AppendData(change.Keys is { } keys ? keys.Bytes.Span : []);
        }
        return hash.GetHashAndReset();
    }
}

/// <summary>An edit or a consolidation in force, as far as it concerns this stage. The same object in every version that has it.</summary>
/// <param name="updates">In the host's memory: a device has room for what it computes with.</param>
/// <param name="route">Its number, where it is seen by what is routed to it alone; null: by all that its scope's edits are for.</param>
/// <param name="keys">What its weights read, by weight, where later edits go round that; in the host's memory too. Null: none.</param>
internal sealed class ActiveEdit(string? scope, IReadOnlyDictionary<string, LowRankUpdate> updates, byte[] digest, EditId? route = null,
    IReadOnlyDictionary<string, Tensor>? keys = null)
{
    public string? Scope => scope;

    public EditId? Route => route;

    public IReadOnlyDictionary<string, LowRankUpdate> Updates => updates;

    public IReadOnlyDictionary<string, Tensor> Keys { get; } = keys ?? new Dictionary<string, Tensor>();

    public byte[] Digest => digest;

    public IEnumerable<Tensor> Tensors =>
        [.. updates.Values.SelectMany(update => new[] { update.uTilde, update.deltaTilde, update.alpha }), .. Keys.Values];
}
