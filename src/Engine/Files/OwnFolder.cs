using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Files;

/// <summary>
/// A folder while a command writes in it. <c>run.lock</c> there names the command that made it and belongs to one process at a time: no
/// command overwrites what it did not make, and no two write in one folder.
/// </summary>
public sealed class OwnFolder : IDisposable
{
    public const string LockFile = "run.lock";

    private readonly FileStream _lock;

    private OwnFolder(FileStream held) => _lock = held;

    /// <param name="folder">Made if it does not exist.</param>
    /// <param name="maker">The command, as its users write it.</param>
    /// <param name="files">Names of what it writes there. None: whatever is there is in its way.</param>
    /// <exception cref="MendException">
    /// <see cref="MendError.OutputTaken"/>, <see cref="MendError.TrainerBusy"/> or <see cref="MendError.FileUnusable"/>. Nothing was
    /// written.
    /// </exception>
    public static OwnFolder Take(string folder, string maker, params IReadOnlyList<string> files)
    {
        var path = Path.Combine(folder, LockFile);
        FileStream held;
        try
        {
            if (!File.Exists(path))
                RefuseOthers(folder, maker, files);
            Directory.CreateDirectory(folder);
            held = new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (IsInUse(e))
        {
            throw new MendException(MendError.TrainerBusy, $"Another process writes in {folder}: {e.Message}",
                "Wait until it is over, or name another folder.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MendException(MendError.FileUnusable, $"The folder {folder} cannot be written: {e.Message}", "Name one that can.", e);
        }
        try
        {
            Claim(held, folder, maker, files);
            return new(held);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Whether a file could not be opened because another process, or another place in this one, has it.</summary>
    public static bool IsInUse(IOException e)
    {
        const int linux = 11, macOS = 35, windows = unchecked((int)0x80070020);
        return e.HResult is linux or macOS or windows;
    }

    public void Dispose() => _lock.Dispose();

    private static void Claim(FileStream held, string folder, string maker, IReadOnlyList<string> files)
    {
        var bytes = new byte[Math.Min(held.Length, 256)];
        held.ReadExactly(bytes);
        var made = Encoding.UTF8.GetString(bytes).Trim();
        if (made == maker)
            return;
        if (made.Length > 0)
            throw new MendException(MendError.OutputTaken, $"{folder} was made by {made}, not by {maker}.", "Name another folder.");
        RefuseOthers(folder, maker, files);
        held.Position = 0;
        held.Write(Encoding.UTF8.GetBytes(maker + "\n"));
    }

    private static void RefuseOthers(string folder, string maker, IReadOnlyList<string> files)
    {
        if (!Directory.Exists(folder))
            return;
        List<string> inTheWay = [.. Directory.EnumerateFileSystemEntries(folder).Select(entry => Path.GetFileName(entry))
            .Where(name => name != LockFile && (files.Count == 0 || files.Contains(name))).Order(StringComparer.Ordinal)];
        if (inTheWay.Count > 0)
            throw new MendException(MendError.OutputTaken,
                $"{folder} holds {string.Join(", ", inTheWay.Take(4))}{(inTheWay.Count > 4 ? ", ..." : "")}, which {maker} did not make.",
                "Nothing was written. Name a new folder, or move away what is there.");
    }
}
