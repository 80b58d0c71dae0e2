namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// A checkpoint cannot be read or written as asked: which file, which tensor or offset in it, what was found, what was expected and what
/// to do.
/// </summary>
public sealed class CheckpointException : Exception
{
    public CheckpointException(string file, string where, string message, Exception? inner = null)
        : base($"{file}: {where}: {message}", inner)
    {
        File = file;
        Where = where;
    }

    /// <summary>Path of the file or directory.</summary>
    public string File { get; }

    /// <summary>The tensor, record or offset in it.</summary>
    public string Where { get; }
}
