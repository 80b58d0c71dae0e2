using System.CommandLine;
using System.Globalization;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Training;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend cluster</c>: silo processes on this machine that host a model together, and the tables of those on several.</summary>
internal static class ClusterCommands
{
    public static Command Create() => new("cluster", "Host a model on several processes")
    {
        Up(),
        Status(),
        Kill(),
        Down(),
        EditCommands.Migrate(PostgresSchema.Membership,
            "Make the tables of membership in PostgreSQL, for a cluster of machines, or bring them up to date"),
    };

    private static Option<string> Folder() =>
        new("--folder")
        {
            Description = "where the cluster keeps settings, membership, logs and ledger",
            DefaultValueFactory = _ => "mend.cluster"
        };

    private static Command Up()
    {
        var folder = Folder();
        var silos = new Option<int>("--silos") { Description = "processes", DefaultValueFactory = _ => 2 }.Within(1, 256);
        var replicas = new Option<int>("--replicas")
        {
            Description = "copies of the model, each with all stages",
            DefaultValueFactory = _ => 1
        }.Within(1, 256);
        var stages = new Option<int?>("--stages") { Description = "pipeline stages; without it as many as give each silo one" }.Within(1);
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory; without it the demo's model" };
        var editor = new Option<FileInfo?>("--editor")
        {
            Description =
            "editor file; without it editor.safetensors in the model's directory, if there is one"
        };
        var ledger = new Option<string?>("--ledger")
        {
            Description =
            "ledger file, or postgres:CONNECTION; without it a file in the cluster's folder"
        };
        var dtype = new Option<DType>("--dtype")
        {
            HelpName = string.Join('|', WeightTypes.All),
            Description = "type of the weights in memory",
            DefaultValueFactory = _ => DType.Float32
        };
        var device = DeviceOption.InTurn();
        var atOnce = new AtOnceOptions();
        var budget = new BudgetOptions("every edit");
        var command = new Command("up", "Start a cluster, or those of its silos that do not run") { folder, silos, replicas, stages, model,
            editor, ledger, dtype, device };
        foreach (var option in budget.All.Concat(atOnce.All))
            command.Options.Add(option);
        command.SetAction(async (parsed, cancellation) =>
        {
            var path = parsed.GetRequiredValue(folder);
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            var chosen = parsed.GetValue(editor)?.FullName ?? EditorCheckpoint.Beside(directory);
            var probes = ProbeSet.Beside(directory);
            var (count, copies) = (parsed.GetValue(silos), parsed.GetValue(replicas));
            var perReplica = parsed.GetValue(stages) ?? Math.Max(1, count / copies);
            List<(string Silo, string Device)> shards =
                [.. Enumerable.Range(0, copies * perReplica)
                .Select(shard => ($"silo-{shard % count}", ShardDevices.Of(parsed.GetRequiredValue(device), shard)))];
            if (Running(path) is null)
            {
                var (text, _) = ModelText.Open(directory); // refused here rather than by every silo
                if (chosen is not null)
                    text.CheckEditor(chosen);
                _ = budget.Of(parsed)?.Checked(probes.Count);
            }
            using var taken = LocalCluster.Take(path);
            LocalCluster cluster;
            var isNew = false;
            if (Running(path) is { } running)
            {
                foreach (var option in new Option[] { silos, replicas, stages, model, editor, ledger, dtype, device }
                    .Concat(budget.All).Concat(atOnce.All))
                    if (parsed.GetResult(option) is { Implicit: false })
                        throw new MendException(MendError.InvalidOption, $"A cluster is up in {path}; {option.Name} cannot be changed.",
                            "Without options the command starts what does not run; mend cluster down ends the cluster.");
                cluster = running;
            }
            else
            {
                var own = parsed.GetValue(ledger) ?? Path.Combine(path, "ledger");
                isNew = true;
                cluster = LocalCluster.Create(path, count, new("model", directory, chosen,
                    PostgresLedger.ConnectionIn(own) is null ? Path.Combine(Environment.CurrentDirectory, own) : own,
                    parsed.GetValue(dtype).ToString(),
                    [.. shards.Select(shard => shard.Silo).Chunk(perReplica)], probes,
                    shards.GroupBy(shard => shard.Silo)
                        .ToDictionary(silo => silo.Key, silo => string.Join(',', silo.Select(shard => shard.Device))), budget.Of(parsed),
                    atOnce.BatchOf(parsed), atOnce.GroupOf(parsed), atOnce.TriggersOf(parsed)));
            }
            cluster.Start();
            try
            {
                Show(cluster, await cluster.ReadyAsync(cancellation));
            }
            catch when (isNew)
            {
                await cluster.StopAsync(CancellationToken.None); // a cluster that never was leaves no process behind
                throw;
            }
        });
        return command;
    }

    private static Command Status()
    {
        var folder = Folder();
        var command = new Command("status", "Which silos run, and what their stages are at") { folder };
        command.SetAction(async (parsed, cancellation) =>
        {
            var cluster = LocalCluster.Open(parsed.GetRequiredValue(folder));
            IReadOnlyList<ShardStatus?> shards = [.. cluster.Settings.Shards.Select(_ => (ShardStatus?)null)];
            if (cluster.Silos.Any(silo => silo.Find() is not null))
            {
                await using var connection = await OrleansCluster.ConnectAsync(cluster.Membership, cluster.Settings.Model,
                    cancellation: cancellation);
                shards = await connection.StatusAsync(cancellation);
            }
            Show(cluster, shards);
        });
        return command;
    }

    private static Command Kill()
    {
        var (folder, silo) = (Folder(), new Argument<int>("silo") { Description = "its number" }.Within(0));
        var command = new Command("kill", "End a silo at once, as a power failure would") { silo, folder };
        command.SetAction(async (parsed, cancellation) =>
        {
            var name = $"silo-{parsed.GetValue(silo)}";
            await LocalCluster.Open(parsed.GetRequiredValue(folder)).KillAsync(name, cancellation);
            Say.Line($"{name} is gone. [grey]mend cluster up starts it again.[/]");
        });
        return command;
    }

    private static Command Down()
    {
        var folder = Folder();
        var command = new Command("down", "End all silos; the ledger stays") { folder };
        command.SetAction(async (parsed, cancellation) =>
        {
            await LocalCluster.Open(parsed.GetRequiredValue(folder)).StopAsync(cancellation);
            Say.Line($"The cluster is down.");
        });
        return command;
    }

    private static LocalCluster? Running(string folder)
    {
        if (!LocalCluster.IsIn(folder))
            return null;
        var cluster = LocalCluster.Open(folder);
        _ = cluster.Settings; // of another release they are refused before anything is started
        return cluster.Silos.Any(silo => silo.Find() is not null) ? cluster : null;
    }

    private static void Show(LocalCluster cluster, IReadOnlyList<ShardStatus?> shards)
    {
        var table = new Table().Border(TableBorder.Simple)
            .AddColumns("silo", "process", "replica", "stage", "layers", "state", "version", "weights");
        foreach (var silo in cluster.Silos)
        {
            var process = silo.Find()?.Id.ToString(CultureInfo.InvariantCulture) ?? "does not run";
            foreach (var (i, (_, replica, stage)) in cluster.Settings.Shards.Index().Where(shard => shard.Item.Silo == silo.Name)
                .DefaultIfEmpty((-1, ("", 0, 0))))
            {
                var shard = i < 0 ? null : shards[i];
                table.AddRow(silo.Name, process, i < 0 ? "none" : $"{replica + 1} of {cluster.Settings.Replicas.Count}",
                    i < 0 ? "" : $"{stage + 1} of {cluster.Settings.Replicas[replica].Count}", shard is null ? ""
                    : $"{shard.FirstLayer}..{shard.EndLayer - 1}",
                    shard?.State.ToString() ?? "", shard?.Version.ToString() ?? "", shard is null ? ""
                        : $"{shard.WeightBytes / 1e6:0.0} MB");
            }
        }
        AnsiConsole.Write(table);
    }
}
