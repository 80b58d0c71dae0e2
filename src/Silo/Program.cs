using System.Net;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Server;
using MendCluster.Silo;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

var builder = Host.CreateApplicationBuilder(args);
if (builder.Configuration["settings"] is { } file)
{
    builder.Configuration.AddJsonFile(Path.GetFullPath(file));
    builder.Configuration.AddEnvironmentVariables().AddCommandLine(args);
}
Log(builder.Logging);
SiloSettings settings;
try
{
    settings = SiloSettingsValidator.Read(builder.Configuration);
}
catch (OptionsValidationException e)
{
    foreach (var fault in e.Failures)
        Console.Error.WriteLine(fault);
    Console.Error.WriteLine("Settings are read from --settings FILE, from variables such as Mend__Name, and from --Mend:NAME=VALUE.");
    return 2;
}
string runtime;
try
{
    runtime = ShardHost.Runtime;
}
catch (TypeInitializationException e) when (e.GetBaseException() is MendException refused)
{
    Console.Error.WriteLine(refused.Message);
    return 1;
}
var cluster = settings.Cluster!;
ShardHost? shards = null;
var served = new ServedCluster(cluster.Model)
{
    Own = async cancellation => await Task.WhenAll(cluster.ShardsOf(settings.Name).Select(async shard => new ShardReport(
        new(shard.Replica, shard.Stage), shards is null ? null : await shards.StatusAsync(shard.Replica, shard.Stage, cancellation)))),
};
if (settings.Server is { } server)
    // first: it listens while the rest starts
    builder.Services.AddHostedService(services => new HttpService(server, served,
        settings.Dashboard ? OrleansDashboard.Pages(served, services.GetRequiredService<IGrainFactory>) : null,
        services.GetRequiredService<ILoggerFactory>()));
if (settings.MembershipPostgreSql is { } database)
    builder.Services.AddHostedService(services => new MembershipDatabase(database, cluster.ClusterId, settings.Name, served,
        TimeProvider.System, services.GetRequiredService<ILogger<MembershipDatabase>>()));
using var beforeHost = LoggerFactory.Create(Log); // whoever has none from the host: it is not built yet
builder.UseOrleans(silo =>
{
    silo.AddMendCluster(cluster, settings.Name);
    if (settings.Dashboard)
        silo.AddOrleansDashboard();
    if (settings.Tls is { } tls)
        silo.UseMendTls(tls, TimeProvider.System, beforeHost.CreateLogger<ClusterTls>());
    if (settings.MembershipFile is { } membership)
        silo.UseFileMembership(membership, settings.SiloPort, settings.GatewayPort);
    else
        silo.UsePostgresMembership(settings.MembershipPostgreSql!, IPAddress.Parse(settings.Address), settings.SiloPort,
            settings.GatewayPort, settings.DeadAfter);
});
using var host = builder.Build();
shards = host.Services.GetRequiredService<ShardHost>();
try
{
    await host.StartAsync();
}
catch (MendException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}
var own = new OrleansCluster(host.Services.GetRequiredService<IGrainFactory>(), cluster.Model, TimeProvider.System);
served.Opened(own, own.TrainingJobs);
Console.WriteLine($"Silo {settings.Name} of model {cluster.Model}: {string.Join(", ", cluster.ShardsOf(settings.Name).Select(shard => $"replica {shard.Replica + 1}, stage {shard.Stage + 1} of {shard.Stages} on {shard.Device}"))}. {runtime}.");
await host.WaitForShutdownAsync();
return 0;

static void Log(ILoggingBuilder logging)
{
    ServerLog.ToStandardOutput(logging, LogLevel.Information);
    foreach (var chatty in new[] { "Orleans", "Polly", "Microsoft.AspNetCore", "Microsoft.Hosting" })
        logging.AddFilter(chatty, LogLevel.Warning);
    // they warn of settings that are meant
    logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error).AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error);
}
