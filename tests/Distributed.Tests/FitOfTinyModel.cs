using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;
using Microsoft.Extensions.Logging.Abstractions;

namespace MendCluster.Distributed.Tests;

/// <summary>Passes of a fit, on the shards of a cluster that is open.</summary>
internal sealed class FitOfTinyModel : IAsyncDisposable
{
    private readonly ModelText _text;
    private readonly IEditLedger _ledger;

    private FitOfTinyModel(ModelText text, IEditLedger ledger, IReadOnlyList<IModelShard> shards) => (_text, _ledger, Passes) =
        (text, ledger, new(0, shards, ledger, new(), TimeProvider.System, NullLogger.Instance));

    public Pipeline Passes { get; }

    public static async Task<FitOfTinyModel> OpenAsync(ClusterOfTinyModel model)
    {
        var (text, fingerprint) = ModelText.Open(model.Model);
        return new(text, await IEditLedger.OpenAsync(model.Ledger + "2", fingerprint, TimeProvider.System), model.Shards);
    }

    /// <summary>In a session, for the base model.</summary>
    public async Task BeginAsync(long session, ModelVersion version, IReadOnlyList<EditId> edits, int maxRank = 8, bool resumes = false)
    {
        await Passes.BranchAsync(new(session, version, true, [], []), default);
        await Passes.BeginFitAsync(new(session, version, edits, maxRank, resumes), default);
    }

    /// <summary>On the base model.</summary>
    public StageTrip Trip(long session, ModelVersion version, params IEnumerable<(string Prompt, string Target)> rows) =>
        new(session, version, _text.Batch([.. rows.Select(row => _text.Row(row.Prompt, row.Target))]), Boundary.None, Branch: 0);

    public ValueTask DisposeAsync() => _ledger.DisposeAsync();
}
