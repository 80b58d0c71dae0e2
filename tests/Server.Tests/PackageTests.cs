using System.Diagnostics;
using System.IO.Compression;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

public sealed class PackageTests
{
    private static readonly string[] Projects = ["Contracts", "Client", "Client.Chat"];

    [Fact]
    [Trait("Category", "Slow")]
    public async Task AFreshProject_RestoresThePackages_AndEditsAFact()
    {
        using var folder = new TemporaryFolder();
        foreach (var project in Projects)
            await RunAsync(FixtureFolder.Repository, "dotnet", "pack", Path.Combine("src", project), "-c", "Release", "--no-build", "-o",
                folder["feed"], "-nologo", "-v", "quiet");
        foreach (var package in Directory.EnumerateFiles(folder["feed"], "*.nupkg"))
        {
            using var content = ZipFile.OpenRead(package);
            Assert.Contains(content.Entries, entry => entry.FullName == "README.md");
            Assert.Contains(content.Entries, entry => entry.FullName == "icon.png");
            Assert.True(File.Exists(Path.ChangeExtension(package, ".snupkg")), package);
        }
        Assert.Equal(Projects.Length, Directory.EnumerateFiles(folder["feed"], "*.nupkg").Count());

        Directory.CreateDirectory(folder["program"]);
        await File.WriteAllTextAsync(Path.Combine(folder["program"], "nuget.config"), $"""
            <configuration>
              <config><add key="globalPackagesFolder" value="{folder["cache"]}" /></config>
              <packageSources><add key="own" value="{folder["feed"]}" /></packageSources>
              <fallbackPackageFolders><add key="machine" value="{Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages")}" /></fallbackPackageFolders>
            </configuration>
            """);
        await File.WriteAllTextAsync(Path.Combine(folder["program"], "Program.csproj"), """
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup><OutputType>Exe</OutputType><TargetFramework>net10.0</TargetFramework><ImplicitUsings>enable</ImplicitUsings><Nullable>enable</Nullable></PropertyGroup>
              <ItemGroup>
                <PackageReference Include="MendCluster.Client" Version="1.0.0" />
                <PackageReference Include="MendCluster.Client.Chat" Version="1.0.0" />
              </ItemGroup>
            </Project>
            """);
        await File.WriteAllTextAsync(Path.Combine(folder["program"], "Program.cs"), $"""
            using MendCluster.Client;
            using MendCluster.Client.Chat;
            using MendCluster.Contracts;
            using Microsoft.Extensions.AI;

            await using var cluster = new HttpCluster(new Uri(args[0]), args[1]);
            var receipt = await cluster.EditAsync("{TinyServer.Prompt}", "{TinyServer.Target}");
            IChatClient chat = new MendChatClient(cluster);
            Console.WriteLine($"edit {"{"}receipt.Id{"}"}: {"{"}await chat.GetResponseAsync("{TinyServer.Prompt}"){"}"}");
            """);
        await using var server = await TinyServer.StartAsync();
        var output = await RunAsync(folder["program"], "dotnet", "run", "--", server.Server.Address.ToString(), server.EditKey);
        Assert.Equal($"edit 1: {(await server.Cluster.AskAsync(TinyServer.Prompt)).Text}", output.Trim());
    }

    private static async Task<string> RunAsync(string folder, string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        })!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {output}{await error}");
        return output;
    }
}
