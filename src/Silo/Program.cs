using System.Net;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains;
using MendCluster.Silo;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

var builder = Host.CreateApplicationBuilder(args);
if (builder.Configuration["settings"] is { } file)
{
    builder.Configuration.AddJsonFile(Path.GetFullPath(file));
    builder.Configuration.AddEnvironmentVariables().AddCommandLine(args);
}
builder.Logging.AddFilter("Orleans", LogLevel.Warning);
builder.Logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error).AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error); // they warn of settings that are meant
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
builder.UseOrleans(silo =>
{
    silo.AddMendCluster(cluster, settings.Name);
    if (settings.MembershipFile is { } membership)
        silo.UseFileMembership(membership, settings.SiloPort, settings.GatewayPort);
    else
        silo.UsePostgresMembership(settings.MembershipPostgreSql!, IPAddress.Parse(settings.Address), settings.SiloPort, settings.GatewayPort, settings.DeadAfter);
});
if (settings.MembershipPostgreSql is { } database)
    try
    {
        await MembershipDatabase.ReadyAsync(database, TimeProvider.System, Console.Error);
    }
    catch (MendException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }
using var host = builder.Build();
await host.StartAsync();
Console.WriteLine($"Silo {settings.Name} of model {cluster.Model}: {string.Join(", ", cluster.ShardsOf(settings.Name).Select(shard => $"replica {shard.Replica + 1}, stage {shard.Stage + 1} of {shard.Stages} on {shard.Device}"))}. {runtime}.");
await host.WaitForShutdownAsync();
return 0;
