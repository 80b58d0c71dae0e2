using System.Diagnostics;

namespace MendCluster.Testing;

/// <summary>The built command-line program, in a process of its own.</summary>
public static class MendProgram
{
    /// <param name="folder">Where it is started.</param>
    public static async Task<(int Code, string Output)> RunAsync(string folder, params string[] arguments)
    {
        var program = Path.Combine(FixtureFolder.Repository, "artifacts", "bin", "Cli", "release", "mend.dll");
        var start = new ProcessStartInfo("dotnet", [program, .. arguments])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["COLUMNS"] = "200";
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, output + await error);
    }
}
