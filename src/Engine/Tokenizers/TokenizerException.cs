namespace MendCluster.Engine.Tokenizers;

/// <summary>A tokenizer's file is missing, broken, or of a kind that is not supported.</summary>
public sealed class TokenizerException : Exception
{
    /// <param name="file">Path of the file or directory.</param>
    /// <param name="where">Line, key or offset in it.</param>
    /// <param name="message">What was found, what was expected, what to do.</param>
    /// <param name="inner">The parser's own error, if there is one.</param>
    public TokenizerException(string file, string where, string message, Exception? inner = null)
        : base($"{file}: {where}: {message}", inner)
    {
        File = file;
        Where = where;
    }

    /// <summary>Path of the file or directory.</summary>
    public string File { get; }

    /// <summary>Line, key or offset in it.</summary>
    public string Where { get; }
}
