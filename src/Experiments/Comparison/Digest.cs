using System.Security.Cryptography;
using System.Text;
using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>Short names for content: the first eight bytes of its SHA-256, in hexadecimal.</summary>
public static class Digest
{
    private static readonly string[] WeightFiles = [".safetensors", ".bin", ".ckpt"];

    public static string OfText(string text) => Short(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    public static string OfFile(string path)
    {
        using var file = File.OpenRead(path);
        return Short(SHA256.HashData(file));
    }

    /// <summary>Of config.json and every file of weights but the editor's; reads them whole.</summary>
    /// <param name="directory">A Hugging Face directory.</param>
    /// <param name="editor">The name of an editor's file that may lie beside the weights.</param>
    public static string OfModel(string directory, string editor) => OfText(string.Join('\n', Directory.EnumerateFiles(directory)
        .Where(path => Path.GetFileName(path) is var name && name != editor
            && (name == "config.json" || WeightFiles.Contains(Path.GetExtension(name))))
        .Order(StringComparer.Ordinal).Select(path => $"{Path.GetFileName(path)} {OfFile(path)}")));

    /// <summary>Of rows as a model reads them and is scored on them.</summary>
    public static string OfRows(IEnumerable<TokenRow> rows) =>
        OfText(string.Join('\n',
        rows.Select(row => $"{string.Join(' ', row.Ids)}|{string.Join(' ', row.DecoderIds ?? [])}|{string.Join(' ', row.Labels)}|{string.Join(' ', row.Condition ?? [])}")));

    private static string Short(byte[] hash) => Convert.ToHexStringLower(hash.AsSpan(0, 8));
}
