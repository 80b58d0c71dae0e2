using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Testing;

/// <summary>A tiny model in a folder of its own, to be opened as a cluster as often as a test likes.</summary>
public sealed class ClusterOfTinyModel : IDisposable
{
    private readonly TemporaryFolder? _own;
    private readonly List<IModelShard> _shards = [];

    /// <param name="family">Of a new tiny model, or the directory of one that is there.</param>
    public ClusterOfTinyModel(string family, int width = TinyModels.Width)
    {
        if (Directory.Exists(family))
        {
            Model = family;
            return;
        }
        _own = new();
        Model = _own.Path;
        TinyModels.Write(Model, family, width: width);
    }

    public string Ledger => Path.Combine(Model, "ledger");

    public string Model { get; }

    public string Editor => Path.Combine(Model, "editor.safetensors");

    /// <summary>Where <see cref="WriteRouter"/> writes.</summary>
    public string Router => Path.Combine(Model, EditRouter.FileName);

    /// <summary>The shards of the cluster that was opened last.</summary>
    public IReadOnlyList<IModelShard> Shards => _shards;

    public Task<EmbeddedCluster> OpenAsync(int stages = 2, Func<IModelShard, IModelShard>? wrap = null, string? ledger = null,
        bool withEditor = true,
        IReadOnlyList<Probe>? probes = null, int replicas = 1, FactorStorage? factors = null, TimeProvider? time = null,
        string device = "cpu", DType dtype = DType.Float32, DriftBudget? budget = null,
        int maxGroup = EditCoordinator.DefaultMaxGroup, ConsolidationTriggers? consolidate = null,
        IReadOnlyList<Probe>? replay = null, string? router = null)
    {
        _shards.Clear();
        return EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = Model,
            Editor = withEditor ? Editor : null,
            Ledger = ledger ?? Ledger,
            Stages = stages,
            Replicas = replicas,
            Device = device,
            DType = dtype,
            Factors = factors ?? new(),
            Time = time ?? TimeProvider.System,
            Probes = probes ?? [new("what is red", "blue"), new("the old town", "south")],
            Replay = replay,
            Router = router,
            Budget = budget,
            MaxGroup = maxGroup,
            Consolidate = consolidate ?? new(),
        }, shard =>
        {
            _shards.Add(wrap?.Invoke(shard) ?? shard);
            return _shards[^1];
        });
    }

    /// <summary>Gives the editor another step size, the same for every weight.</summary>
    public void SetAlpha(float alpha)
    {
        using var mend = EditorCheckpoint.LoadEditor(Editor);
        using (no_grad())
            mend.Alpha.Mul_(0).Add_(alpha);
        EditorCheckpoint.SaveEditor(Editor, mend);
    }

    /// <summary>A router that was not trained: states are compared as they are, in a few directions.</summary>
    /// <param name="threshold">Near 1 for what is asked in the same words alone.</param>
    /// <returns>Its file.</returns>
    public string WriteRouter(double threshold = 0.9999, long seed = 1)
    {
        var fingerprint = ModelText.FingerprintOf(Model);
        using var generator = new Generator((ulong)seed);
        var states = 2 * TinyModels.Width;
        using var router = new EditRouter(zeros([states], device: CPU), NewTensor.Normal([states, 16], generator), threshold, new(1, 0, 1, 0, 0));
        router.Save(Router, fingerprint);
        return Router;
    }

    /// <summary>Everything a user can see of the model at a version, to the last bit: log-probabilities and answers.</summary>
    public Task<string> StateAsync(EmbeddedCluster cluster) => ModelState.OfAsync(Model, _shards, cluster);

    /// <summary>The same of one replica.</summary>
    public Task<string> StateAsync(EmbeddedCluster cluster, int replica, int stages) =>
        ModelState.OfAsync(Model, [.. _shards.Skip(replica * stages).Take(stages)], cluster);

    public void Dispose() => _own?.Dispose();
}
