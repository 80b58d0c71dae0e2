using System.Text.Json;

namespace MendCluster.Engine.Tokenizers;

/// <summary>Reads the tokenizer of a Hugging Face directory.</summary>
public static class TokenizerFiles
{
    /// <exception cref="TokenizerException">No tokenizer that is known, or a broken one.</exception>
    public static ITokenizer Load(string directory)
    {
        if (File.Exists(Path.Combine(directory, "vocab.json")) && File.Exists(Path.Combine(directory, "merges.txt")))
            return LoadBytePair(directory);
        throw new TokenizerException(directory, "tokenizer files", "none found; expected vocab.json and merges.txt");
    }

    private static BytePair LoadBytePair(string directory)
    {
        var vocabularyFile = Path.Combine(directory, "vocab.json");
        var vocabulary = ReadJson<Dictionary<string, int>>(vocabularyFile);
        var mergesFile = Path.Combine(directory, "merges.txt");
        var merges = new List<(string, string)>();
        var number = 0;
        foreach (var line in File.ReadLines(mergesFile))
        {
            number++;
            if (line.Length == 0 || (number == 1 && line.StartsWith("#version", StringComparison.Ordinal)))
                continue;
            var parts = line.Split(' ');
            if (parts.Length != 2)
                throw new TokenizerException(mergesFile, $"line {number}", $"'{line}' is not a pair of tokens with a space between them");
            merges.Add((parts[0], parts[1]));
        }
        var (specials, appended) = ReadSpecials(directory);
        string[] known = [.. specials.Where(vocabulary.ContainsKey)];
        return new(vocabularyFile, vocabulary, merges, known, appended);
    }

    /// <summary>Special tokens of tokenizer_config.json, and the one that ends every text. GPT-2's files have neither.</summary>
    private static (IReadOnlyCollection<string> Specials, string? Appended) ReadSpecials(string directory)
    {
        var specials = new HashSet<string> { "<|endoftext|>" };
        var file = Path.Combine(directory, "tokenizer_config.json");
        if (!File.Exists(file))
            return (specials, null);
        var config = ReadJson<JsonElement>(file);
        if (config.ValueKind != JsonValueKind.Object)
            throw new TokenizerException(file, "JSON", "is not an object");
        if (config.TryGetProperty("additional_special_tokens", out var more) && more.ValueKind == JsonValueKind.Array)
            foreach (var token in more.EnumerateArray().Where(token => token.ValueKind == JsonValueKind.String))
                specials.Add(token.GetString()!);
        var appends = config.TryGetProperty("add_eos_token", out var flag) && flag.ValueKind == JsonValueKind.True;
        var end = config.TryGetProperty("eos_token", out var eos) && eos.ValueKind == JsonValueKind.String ? eos.GetString() : null;
        if (appends && end is null)
            throw new TokenizerException(file, "add_eos_token", "is true, but eos_token names no token");
        return (specials, appends ? end : null);
    }

    private static T ReadJson<T>(string file)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllText(file)) ?? throw new TokenizerException(file, "JSON", "is null");
        }
        catch (JsonException e)
        {
            throw new TokenizerException(file, "JSON", e.Message, e);
        }
    }
}
