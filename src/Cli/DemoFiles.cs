using MendCluster.Distributed;
using MendCluster.Engine.Recipes;

namespace MendCluster.Cli;

/// <summary>The shipped demo: a small model, its editor and its probes.</summary>
internal static class DemoFiles
{
    public static string Shipped => Path.Combine(AppContext.BaseDirectory, "Demo");

    /// <summary>Where <c>mend demo --from-scratch</c> puts what it makes.</summary>
    public static string Made => Path.GetFullPath("demo");

    public static string Editor(string directory) => Path.Combine(directory, DemoRecipe.EditorFile);

    public static IReadOnlyList<Probe> Probes(string directory) =>
        File.Exists(Path.Combine(directory, DemoRecipe.ProbesFile)) ? ProbeSet.Read(Path.Combine(directory, DemoRecipe.ProbesFile)) : [];
}
