using System.Runtime.InteropServices;
using MendCluster.Contracts;

namespace MendCluster.Engine.Torch;

/// <summary>
/// The libtorch that LIBTORCH names, such as a PyTorch's torch folder, for programs that were built without one (docs/gpu.md). Its
/// libraries are loaded by their paths before TorchSharp looks for them; what TorchSharp then asks for by name is what is loaded.
/// </summary>
internal static class LibtorchFolder
{
    public const string Variable = "LIBTORCH";

    /// <exception cref="MendException">There is no libtorch, or the program has one of its own.</exception>
    public static void Load()
    {
        if (Environment.GetEnvironmentVariable(Variable) is not { Length: > 0 } folder)
            return;
        var first = FileOf("torch_cpu");
        string[] own = [AppContext.BaseDirectory,
            Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeInformation.RuntimeIdentifier, "native")];
        if (own.FirstOrDefault(place => File.Exists(Path.Combine(place, first))) is { } place)
            throw new MendException(MendError.InvalidOption,
                $"{Variable} is {folder}, and this program has a libtorch of its own in {place}: both would be loaded.",
                $"Unset {Variable}, or build the program without one: -p:Libtorch=folder.");
        var library = Path.GetFullPath(Path.Combine(folder, "lib"));
        if (!File.Exists(Path.Combine(library, first)))
            throw new MendException(MendError.InvalidOption, $"{Variable} is {folder}, and there is no {Path.Combine(library, first)}.",
                "Name the folder of a libtorch, or a PyTorch's torch folder.");
        foreach (var file in new[] { "torch_cpu", "torch_cuda", "torch" }.Select(name => Path.Combine(library, FileOf(name)))
            .Where(File.Exists))
            try
            {
                NativeLibrary.Load(file); // never let go of
            }
            catch (DllNotFoundException e)
            {
                throw new MendException(MendError.InvalidOption,
                    $"{Variable} is {folder}, and its {Path.GetFileName(file)} cannot be loaded: {e.Message}",
                    "Is it for this system, with all that it needs beside it?");
            }
    }

    private static string FileOf(string name) => OperatingSystem.IsWindows() ? $"{name}.dll" : OperatingSystem.IsMacOS()
        ? $"lib{name}.dylib" : $"lib{name}.so";
}
