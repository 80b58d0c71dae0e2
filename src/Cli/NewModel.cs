using MendCluster.Contracts;
using MendCluster.Engine.Files;

namespace MendCluster.Cli;

/// <summary>A model's directory that a command makes: new, whole or not at all, and by one process.</summary>
internal static class NewModel
{
    /// <summary>Keeps other processes from making the same directory, as long as what is returned is held.</summary>
    /// <exception cref="MendException">The directory is there and not empty, or another process makes it, or it cannot be made.</exception>
    public static IDisposable Alone(string directory)
    {
        var path = Path.TrimEndingDirectorySeparator(directory);
        try
        {
            if (File.Exists(path) || (Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any()))
                throw new MendException(MendError.OutputTaken, $"{path} is there and not empty.",
                    "Nothing was written. Name a new directory, or move away what is there.");
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            return new FileStream(path + ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0,
                FileOptions.DeleteOnClose);
        }
        catch (IOException e) when (OwnFolder.IsInUse(e))
        {
            throw new MendException(MendError.TrainerBusy, $"Another process makes {path}.",
                "Wait until it is over, or name another directory.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MendException(MendError.FileUnusable, $"{path} cannot be made: {e.Message}", "Name a directory that can.", e);
        }
    }

    /// <summary>Has a directory made under another name, and renames it when it is whole.</summary>
    public static void Make(string directory, Action<string> make)
    {
        using var alone = Alone(directory);
        var path = Path.TrimEndingDirectorySeparator(directory);
        var partial = path + ".partial";
        if (Directory.Exists(partial))
            Directory.Delete(partial, recursive: true); // of a command that was killed
        try
        {
            make(partial);
            if (Directory.Exists(path))
                Directory.Delete(path);
            Directory.Move(partial, path);
        }
        catch
        {
            if (Directory.Exists(partial))
                Directory.Delete(partial, recursive: true);
            throw;
        }
    }
}
