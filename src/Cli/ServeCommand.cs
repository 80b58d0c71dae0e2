using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Server;
using MendCluster.Server.Security;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace MendCluster.Cli;

/// <summary><c>mend serve</c>: a model in this process, or a cluster that is up, over HTTP.</summary>
internal static class ServeCommand
{
    private const string Section = "Mend:Server";

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    public static Command Create()
    {
        var cluster = new ClusterOptions { Budget = new("every edit"), AtOnce = new() };
        var settings = new Option<FileInfo?>("--settings")
        {
            Description =
            $"JSON file with the server's settings at {Section}; variables such as Mend__Server__Port come after it, these options last"
        };
        var address = new Option<string?>("--address") { Description = "IP address of API and console; without it 127.0.0.1" };
        var port = new Option<int?>("--port") { Description = "port of API and console; without it 8080; 0: any that is free" }.Within(0,
            ushort.MaxValue);
        var managementPort = new Option<int?>("--management-port")
        {
            Description =
            "port of health and metrics; without it 8081; 0: any that is free"
        }.Within(0, ushort.MaxValue);
        var keys = new Option<FileInfo?>("--keys")
        {
            Description =
            "file of API keys (mend key); without it, and without tokens in the settings, a key is made for as long as the server runs"
        };
        var trainings = new Option<DirectoryInfo?>("--trainings")
        {
            Description =
            "folder of training data and runs; without it no training is taken"
        };
        var command = new Command("serve", "Serve a model over HTTP: API, console, health and metrics") { settings, address, port,
            managementPort, keys, trainings };
        cluster.AddTo(command);
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var read = Read(parsed.GetValue(settings)?.FullName);
            read = read with
            {
                Address = parsed.GetValue(address) ?? read.Address,
                Port = parsed.GetValue(port) ?? read.Port,
                ManagementPort = parsed.GetValue(managementPort) ?? read.ManagementPort,
                Keys = parsed.GetValue(keys)?.FullName ?? read.Keys,
                Trainings = parsed.GetValue(trainings)?.FullName ?? read.Trainings,
            };
            var fresh = read.Keys is null && read.Oidc is null && !read.Anonymous ? ApiKey.New(Environment.UserName, Right.Admin)
                : default((string Key, ApiKey Kept)?);
            await ServeAsync(cluster, parsed, read, fresh, cancellation);
        });
        return command;
    }

    private static async Task ServeAsync(ClusterOptions cluster, ParseResult parsed, ServerSettings settings,
        (string Key, ApiKey Kept)? fresh, CancellationToken cancellation)
    {
        var served = new ServedCluster(cluster.NameOf(parsed));
        await using var server = await MendServer.StartAsync(settings, served, fresh is { } own ? [own.Kept] : [],
            Log, cancellation: cancellation);
        served.Waits("loads the model");
        using var logs = LoggerFactory.Create(Log);
        await using var opened = await OpenAsync(cluster, parsed, served, logs, cancellation);
        var runs = settings.Trainings is null ? null : cluster.TrainingJobs(parsed, opened);
        try
        {
            served.Opened(opened, runs);
            Say.Line($"Serving {served.Model} at [bold]{server.Address}[/]; health and metrics at {server.Management}. Ctrl-C ends it.");
            if (fresh is { } made)
            {
                Say.Line($"Key, as long as this runs: [bold]{made.Key}[/]");
                Console.Out.WriteLine($"Console: {server.Address}#key={made.Key}"); // a terminal makes a link of it, if it is not wrapped
            }
            cluster.SayType(parsed);
            await Task.Delay(Timeout.Infinite, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await server.StopAsync();
        }
        finally
        {
            if (runs is IAsyncDisposable ended)
                await ended.DisposeAsync();
        }
        Say.Line($"Stopped.");
    }

    private static void Log(ILoggingBuilder logging) => ServerLog.ToStandardError(logging, LogLevel.Warning);

    /// <summary>A cluster that is up may not be so yet.</summary>
    private static async Task<IMendCluster> OpenAsync(ClusterOptions cluster, ParseResult parsed, ServedCluster served,
        ILoggerFactory logs, CancellationToken cancellation)
    {
        while (true)
            try
            {
                return await cluster.OpenAsync(parsed, cancellation, logs);
            }
            catch (MendException e) when (e.Error is MendError.CoordinatorLost or MendError.MembershipUnreachable)
            {
                if (served.Waiting is not { } said || !said.StartsWith("waits", StringComparison.Ordinal))
                    Say.Line(Console.Error, $"{e.Message} The server waits for it.");
                served.Waits("waits for the cluster");
                await Task.Delay(Pause, cancellation);
            }
    }

    private static ServerSettings Read(string? file)
    {
        var configuration = new ConfigurationBuilder();
        if (file is not null)
            configuration.AddJsonFile(file);
        try
        {
            return StrictSettings.Read<ServerSettings>(configuration.AddEnvironmentVariables().Build().GetSection(Section),
                settings => settings.Faults());
        }
        catch (OptionsValidationException e)
        {
            throw new MendException(MendError.InvalidOption, string.Join(' ', e.Failures),
                $"Correct the settings; they are read from --settings FILE and from variables such as Mend__Server__Port.");
        }
        catch (Exception e) when (e is InvalidDataException or FormatException)
        {
            throw new MendException(MendError.InvalidData,
                $"The settings in {file} cannot be read: {(e.InnerException ?? e).Message.TrimEnd('.')}.",
                "They are JSON; docs/security.md has an example.", e);
        }
    }
}
