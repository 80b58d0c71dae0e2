using System.Diagnostics;
using System.Text;

namespace MendCluster.Testing;

/// <summary>The built command-line program, in a process of its own.</summary>
public static class MendProgram
{
    /// <param name="folder">Where it is started.</param>
    public static Task<(int Code, string Output)> RunAsync(string folder, params string[] arguments) =>
        RunUntilAsync(folder, said: null, Program, arguments);

    /// <summary>Another program that was built beside the tests.</summary>
    /// <param name="project">Its project, and what its file is called after MendCluster.</param>
    public static Task<(int Code, string Output)> RunOtherAsync(string project, params string[] arguments) =>
        RunUntilAsync(FixtureFolder.Repository, said: null, Path.Combine(Built, project, "release", $"MendCluster.{project}.dll"),
        arguments);

    /// <summary>Told to stop when it says something; what it does then is in the output too.</summary>
    /// <param name="folder">Where it is started.</param>
    /// <param name="said">In one line of its output.</param>
    public static Task<(int Code, string Output)> StopAsync(string folder, string said, params string[] arguments) =>
        RunUntilAsync(folder, said, Program, arguments);

    /// <summary>A line of the shell, in which <c>mend</c> is the program.</summary>
    /// <param name="folder">Where it is run.</param>
    public static async Task<(int Code, string Output)> ShellAsync(string folder, string line)
    {
        var start = new ProcessStartInfo("bash", ["-c", $"mend() {{ dotnet '{Program}' \"$@\"; }}; {line}"])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, output + await error);
    }

    private static string Built => Path.Combine(FixtureFolder.Repository, "artifacts", "bin");

    private static string Program => Path.Combine(Built, "Cli", "release", "mend.dll");

    private static async Task<(int Code, string Output)> RunUntilAsync(string folder, string? said, string program, string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [program, .. arguments])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["COLUMNS"] = "200";
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = new StringBuilder();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            output.AppendLine(line);
            if (said is null || !line.Contains(said, StringComparison.Ordinal))
                continue;
            said = null;
            // Not SIGINT, which is handled alike: what is started in a shell's background has inherited that it ignores it.
            using var stop = Process.Start("sh", ["-c", $"kill -TERM {process.Id}"]); // a bare Debian has no other kill
            await stop.WaitForExitAsync();
        }
        await process.WaitForExitAsync();
        return (process.ExitCode, output + await error);
    }
}
