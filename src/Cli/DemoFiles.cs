using MendCluster.Engine.Training;

namespace MendCluster.Cli;

/// <summary>Where the demo's model is, with its editor and probes.</summary>
internal static class DemoFiles
{
    public static string Shipped => Path.Combine(AppContext.BaseDirectory, "Demo");

    /// <summary>Where <c>mend demo --from-scratch</c> puts what it makes.</summary>
    public static string Made => Path.GetFullPath("demo");

    public static string Editor(string directory) => Path.Combine(directory, EditorCheckpoint.FileName);
}
