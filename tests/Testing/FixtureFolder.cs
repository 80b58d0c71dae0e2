namespace MendCluster.Testing;

/// <summary>The reference numbers: the folder that MEND_FIXTURES names, or the repository's tests/Fixtures.</summary>
public static class FixtureFolder
{
    public static string Path { get; } = Environment.GetEnvironmentVariable("MEND_FIXTURES") is { Length: > 0 } other
        ? System.IO.Path.GetFullPath(other)
        : System.IO.Path.Combine(Repository, "tests", "Fixtures");

    /// <summary>The folder of MendCluster.sln.</summary>
    public static string Repository
    {
        get
        {
            for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
                if (File.Exists(System.IO.Path.Combine(folder.FullName, "MendCluster.sln")))
                    return folder.FullName;
            throw new DirectoryNotFoundException($"MendCluster.sln is in no folder above {AppContext.BaseDirectory}");
        }
    }
}
