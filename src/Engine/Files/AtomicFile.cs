namespace MendCluster.Engine.Files;

/// <summary>Files that are replaced in one step: a stop leaves the old text or the new one, and no part of either.</summary>
public static class AtomicFile
{
    public static void Write(string path, string text)
    {
        File.WriteAllText(path + ".partial", text);
        File.Move(path + ".partial", path, overwrite: true);
    }
}
