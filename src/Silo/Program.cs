using System.Net;
using MendCluster.Grains;
using MendCluster.Silo;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

var builder = Host.CreateApplicationBuilder(args);
if (builder.Configuration["settings"] is { } file)
{
    builder.Configuration.AddJsonFile(Path.GetFullPath(file));
    builder.Configuration.AddEnvironmentVariables().AddCommandLine(args);
}
builder.Logging.AddFilter("Orleans", LogLevel.Warning);
builder.Logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error).AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error); // they warn of settings that are meant
var settings = builder.Configuration.GetSection("Mend").Get<SiloSettings>();
if (settings is not { Name.Length: > 0, Cluster: { } cluster } || settings.MembershipFile is null == settings.MembershipPostgreSql is null)
{
    Console.Error.WriteLine("A silo needs Mend:Name, Mend:Cluster (Model, ModelDirectory, Editor, Ledger, Replicas) and one of Mend:MembershipFile and Mend:MembershipPostgreSql: --settings FILE, variables or --Mend:NAME=VALUE.");
    return 2;
}
builder.UseOrleans(silo =>
{
    silo.AddMendCluster(cluster, settings.Name);
    if (settings.MembershipFile is { } membership)
        silo.UseFileMembership(membership, settings.SiloPort, settings.GatewayPort);
    else
        silo.UseAdoNetClustering(options => (options.Invariant, options.ConnectionString) = ("Npgsql", settings.MembershipPostgreSql))
            .ConfigureEndpoints(IPAddress.Parse(settings.Address), settings.SiloPort, settings.GatewayPort, listenOnAnyHostAddress: true)
            .Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = ("mend", "mend"))
            .Configure<ClusterMembershipOptions>(options =>
            {
                // A silo that copies a large tensor is slow to answer and not dead.
                options.ProbeTimeout = TimeSpan.FromSeconds(10);
                options.NumMissedProbesLimit = 5;
            });
});
using var host = builder.Build();
await host.StartAsync();
Console.WriteLine($"Silo {settings.Name} of model {cluster.Model}: {string.Join(", ", cluster.ShardsOf(settings.Name).Select(shard => $"replica {shard.Replica + 1}, stage {shard.Stage + 1} of {shard.Stages}"))}.");
await host.WaitForShutdownAsync();
return 0;
