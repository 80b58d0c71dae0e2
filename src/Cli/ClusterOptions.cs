using System.CommandLine;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Training;
using Microsoft.Extensions.Logging;

namespace MendCluster.Cli;

/// <summary>
/// The options of every command on a model: one that is opened as a cluster in this process, or a cluster of silos that is up.
/// </summary>
internal sealed class ClusterOptions
{
    public Option<DirectoryInfo?> Model { get; } = new("--model") { Description = "Hugging Face directory; without it the demo's model" };

    public Option<FileInfo?> Editor { get; } =
        new("--editor") { Description = "editor file; without it editor.safetensors in the model's directory, if there is one" };

    public Option<string?> Ledger { get; } = new("--ledger") { Description = $"ledger file, or postgres:CONNECTION; {DefaultLedger.Rule}" };

    public Option<int> Stages { get; } =
        new Option<int>("--stages") { Description = "pipeline stages", DefaultValueFactory = _ => 2 }.Within(1);

    public Option<int> Replicas { get; } =
        new Option<int>("--replicas") { Description = "copies of the model, each with all stages", DefaultValueFactory = _ => 1 }.Within(1,
        256);

    public Option<DType?> DType { get; } =
        new("--dtype")
        {
            HelpName = string.Join('|', WeightTypes.All),
            Description = "type of the weights in memory; without it Float32, but BFloat16 where the checkpoint is in it and this CPU multiplies it faster"
        };

    public Option<string> Device { get; } = DeviceOption.InTurn();

    public Option<string?> Cluster { get; } =
        new("--cluster")
        {
            Description =
        "a cluster that is up, instead of a model in this process: its folder (mend cluster up), or postgres:CONNECTION of its membership"
        };

    public Option<string> Name { get; } =
        new("--name")
        {
            Description = "the model's name in a cluster that is reached through PostgreSQL",
            DefaultValueFactory = _ => "model"
        };

    public Option<string?> ClusterId { get; } = new("--cluster-id") { Description = "which cluster of that database; without it mend" };

    public Option<DirectoryInfo?> Tls { get; } =
        new("--tls")
        {
            Description =
        $"folder with {ClusterTls.CertificateFile}, {ClusterTls.KeyFile} and {ClusterTls.AuthorityFile}, by which the cluster's silos know this program"
        };

    /// <summary>What every edit of the model is held to. Null: the command has no options for it.</summary>
    public BudgetOptions? Budget { get; init; }

    /// <summary>Null: the command has no options for it, and asks one thing at a time.</summary>
    public AtOnceOptions? AtOnce { get; init; }

    private Option[] OfAModel =>
        [Model, Editor, Ledger, Stages, Replicas, DType, Device, .. Budget?.All ?? [], .. AtOnce?.All ?? []];

    public void AddTo(Command command)
    {
        foreach (var option in OfAModel.Concat([Cluster, Name, ClusterId, Tls]))
            command.Options.Add(option);
    }

    public async Task<IMendCluster> OpenAsync(ParseResult parsed, CancellationToken cancellation, ILoggerFactory? logs = null)
    {
        if (parsed.GetValue(Cluster) is { } place)
        {
            NoneGiven(OfAModel, parsed);
            if (PostgresLedger.ConnectionIn(place) is { } connection)
                return await OrleansCluster.ConnectToPostgresAsync(
                    connection, parsed.GetRequiredValue(Name), parsed.GetValue(ClusterId), TlsOf(parsed), logs, cancellation);
            OnlyThroughPostgres(parsed);
            var cluster = LocalCluster.Open(place);
            return await OrleansCluster.ConnectAsync(cluster.Membership, cluster.Settings.Model, tls: TlsOf(parsed), logs: logs,
                cancellation: cancellation);
        }
        if (parsed.GetValue(Tls) is not null)
            throw new MendException(MendError.InvalidOption, $"{Tls.Name} was given, and no cluster.",
                $"Name the cluster (--cluster), or leave {Tls.Name} out.");
        OnlyThroughPostgres(parsed);
        var model = ModelOf(parsed);
        return await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = model,
            Editor = parsed.GetValue(Editor)?.FullName ?? EditorCheckpoint.Beside(model),
            Ledger = parsed.GetValue(Ledger) ?? DefaultLedger.Of(model),
            Stages = parsed.GetValue(Stages),
            Replicas = parsed.GetValue(Replicas),
            DType = TypeOf(parsed).Type,
            Device = parsed.GetRequiredValue(Device),
            Probes = ProbeSet.Beside(model),
            Router = EditRouter.Beside(model),
            Budget = Budget?.Of(parsed),
            MaxBatch = AtOnce?.BatchOf(parsed) ?? ShardOptions.DefaultMaxBatch,
            MaxGroup = AtOnce?.GroupOf(parsed) ?? EditCoordinator.DefaultMaxGroup,
            Consolidate = AtOnce?.TriggersOf(parsed) ?? new(),
            Logger = logs?.CreateLogger<EditCoordinator>(),
        }, cancellation);
    }

    /// <summary>Says the type of the weights, where that was left to choose.</summary>
    public void SayType(ParseResult parsed)
    {
        if (parsed.GetValue(Cluster) is null && TypeOf(parsed) is { Reason: { } reason } choice)
            Say.Line($"[grey]Weights in {choice.Type}: {reason}.[/]");
    }

    private static WeightTypeChoice Given(DType type) => new(type, null);

    /// <summary>What the model is called in this cluster; one in this process by its directory.</summary>
    public string NameOf(ParseResult parsed) => parsed.GetValue(Cluster) is not { } place
        ? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(ModelOf(parsed)))).ToLowerInvariant()
        : PostgresLedger.ConnectionIn(place) is null ? LocalCluster.Open(place).Settings.Model : parsed.GetRequiredValue(Name);

    /// <summary>The training runs of a cluster that was opened; whoever gets them disposes of them where they can be.</summary>
    public ITrainingJobs TrainingJobs(ParseResult parsed, IMendCluster opened) => parsed.GetValue(Cluster) is not null
        ? ((OrleansCluster)opened).TrainingJobs
        : EmbeddedTrainingJobs.Create(ModelOf(parsed), parsed.GetValue(Replicas), parsed.GetValue(Stages), TypeOf(parsed).Type,
            parsed.GetRequiredValue(Device));

    private ClusterTls? TlsOf(ParseResult parsed) => parsed.GetValue(Tls) is { } folder ? ClusterTls.In(folder.FullName) : null;

    private string ModelOf(ParseResult parsed) => parsed.GetValue(Model)?.FullName ?? DemoFiles.Shipped;

    private WeightTypeChoice TypeOf(ParseResult parsed) => parsed.GetValue(DType) is { } given ? Given(given)
        : parsed.GetRequiredValue(Device) == DeviceOption.Cpu ? WeightTypeChoice.Of(ModelOf(parsed)) : Given(Contracts.DType.Float32);

    /// <summary>A cluster that is up.</summary>
    /// <param name="ofAModel">Options that such a cluster has its own answers to.</param>
    /// <exception cref="MendException">There is none, or one of the options was given.</exception>
    public static LocalCluster Open(string folder, ParseResult parsed, params IEnumerable<Option> ofAModel)
    {
        NoneGiven(ofAModel, parsed);
        return LocalCluster.Open(folder);
    }

    private void OnlyThroughPostgres(ParseResult parsed)
    {
        foreach (var option in new Option[] { Name, ClusterId })
            if (parsed.GetResult(option) is { Implicit: false })
                throw new MendException(MendError.InvalidOption, $"{option.Name} was given, and no cluster in PostgreSQL.",
                    $"Name its database (--cluster postgres:CONNECTION), or leave {option.Name} out.");
    }

    private static void NoneGiven(IEnumerable<Option> ofAModel, ParseResult parsed)
    {
        foreach (var option in ofAModel)
            if (parsed.GetResult(option) is { Implicit: false })
                throw new MendException(MendError.InvalidOption, $"{option.Name} and --cluster were both given.",
                    "A cluster that is up has the model and layout that it was started with.");
    }
}
