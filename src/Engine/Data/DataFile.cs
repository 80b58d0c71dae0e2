using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MendCluster.Engine.Data;

/// <summary>
/// What the readers of published data files share. Whatever is wrong is an <see cref="InvalidDataException"/> that names the file,
/// the place, what was found there and what to do.
/// </summary>
public static class DataFile
{
    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Of anything that was read: SHA-256 of its JSON, in hexadecimal digits. Where an edit was read does not count.</summary>
    public static string Digest<T>(T read)
    {
        using var hash = SHA256.Create();
        using (var stream = new CryptoStream(Stream.Null, hash, CryptoStreamMode.Write))
            JsonSerializer.Serialize(stream, read, Plain);
        return Convert.ToHexStringLower(hash.Hash!);
    }

    /// <summary>The rows, refused when there is none.</summary>
    public static IReadOnlyList<T> NotEmpty<T>(string path, IEnumerable<T> rows)
    {
        var list = rows.ToList();
        return list.Count > 0 ? list : throw new InvalidDataException($"{path}: found no usable row. Is it the right file, and whole?");
    }

    /// <summary>The lines that are not blank, with their numbers from 1.</summary>
    public static IEnumerable<(int Number, string Text)> Lines(string path)
    {
        using var reader = new StreamReader(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
        for (var number = 1; Read(number) is { } line; number++)
        {
            if (number == 1 && LfsPointer.Is(line))
                throw Pointer(path);
            if (line.Trim().Length > 0)
                yield return (number, line);
        }

        string? Read(int number)
        {
            try
            {
                return reader.ReadLine();
            }
            catch (DecoderFallbackException e)
            {
                // The reader decodes a block ahead, so the line is the first that the bad bytes can be in.
                throw new InvalidDataException(
                    $"{path}, at or after line {number}: found bytes that are not UTF-8. Save the file as UTF-8.", e);
            }
        }
    }

    /// <summary>A whole file of JSON.</summary>
    public static JsonDocument Parse(string path)
    {
        using var stream = File.OpenRead(path);
        try
        {
            return JsonDocument.Parse(stream);
        }
        catch (JsonException e)
        {
            throw LfsPointer.Is(File.ReadLines(path).FirstOrDefault("")) ? Pointer(path)
                : new InvalidDataException($"{path}, line {e.LineNumber + 1}: not JSON: {e.Message} Is the file whole?", e);
        }
    }

    private static InvalidDataException Pointer(string path) => new($"{path}: {LfsPointer.Said}.");

    /// <summary>One line of JSON.</summary>
    public static JsonDocument ParseLine(string path, int number, string line)
    {
        try
        {
            return JsonDocument.Parse(line);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}, line {number}: not JSON: {e.Message} Is the file whole, with one object a line?", e);
        }
    }

    /// <summary>
    /// The rows of De Cao et al.'s files, in which zsRE and FEVER are published: one JSON object a line with input, alternatives,
    /// filtered_rephrases and output[].answer. Not all can be used: see <see cref="PaperRow.IsUsable"/>.
    /// </summary>
    internal static IEnumerable<PaperRow> PaperRows(string path)
    {
        foreach (var (number, line) in Lines(path))
        {
            using var document = ParseLine(path, number, line);
            var row = new JsonAt(path, $"line {number}", document.RootElement);
            var prompt = row.Text("input");
            var targets = row.Field("alternatives").Texts().Where(text => text.Length > 0).ToList();
            var rephrases = row.Field("filtered_rephrases").Texts().Where(text => text.Length > 0).ToList();
            rephrases.Remove(prompt); // its first occurrence only: the reference's rule
            var answer = row.Field("output").Items().FirstOrDefault()
                ?? throw row.Field("output").Wrong("an empty list", "put {\"answer\": ...} in it");
            yield return new PaperRow(row, prompt, targets, rephrases, answer.Text("answer"));
        }
    }
}

/// <summary>A row of <see cref="DataFile.PaperRows"/>; <paramref name="Row"/> lives as long as its turn in the enumeration.</summary>
internal sealed record PaperRow(JsonAt Row, string Prompt, IReadOnlyList<string> Targets, IReadOnlyList<string> Rephrases, string Answer)
{
    /// <summary>It has a prompt, an answer, an alternative, and a rephrase beside the prompt itself.</summary>
    public bool IsUsable => Prompt.Length > 0 && Targets.Count > 0 && Rephrases.Count > 0 && Answer.Length > 0;
}

/// <summary>A JSON value that knows where it was found.</summary>
internal sealed record JsonAt(string Path, string Place, JsonElement Value)
{
    public bool IsList => Value.ValueKind == JsonValueKind.Array;

    public bool IsObject => Value.ValueKind == JsonValueKind.Object;

    public bool Has(string field) => IsObject && Value.TryGetProperty(field, out _);

    public JsonAt Field(string field)
    {
        if (Value.ValueKind != JsonValueKind.Object)
            throw Wrong(Found, $"write an object with the field \"{field}\"");
        return Value.TryGetProperty(field, out var value)
            ? new JsonAt(Path, $"{Place}, field \"{field}\"", value)
            : throw Wrong($"an object without the field \"{field}\"", "add it, or check that the file is in this form");
    }

    public IEnumerable<JsonAt> Items() => IsList
        ? Value.EnumerateArray().Select((item, i) => new JsonAt(Path, $"{Place}, item {i}", item))
        : throw Wrong(Found, "write a list");

    /// <summary>The values of an object's fields.</summary>
    public IEnumerable<JsonAt> Members() => IsObject
        ? Value.EnumerateObject().Select(member => new JsonAt(Path, $"{Place}, field \"{member.Name}\"", member.Value))
        : throw Wrong(Found, "write an object");

    public IReadOnlyList<string> Texts() => Items().Select(item => item.Text()).ToList();

    public string Text(string field) => Field(field).Text();

    /// <summary>Whether the field is there and not null.</summary>
    public bool HasValue(string field) => Has(field) && Field(field).Value.ValueKind != JsonValueKind.Null;

    /// <summary>Null where the field is absent or null.</summary>
    public string? OptionalText(string field) => HasValue(field) ? Text(field) : null;

    public string Text() => TextBatch.WithoutEnds(Raw());

    /// <summary>With the white space at its ends.</summary>
    public string Raw()
    {
        if (Value.ValueKind != JsonValueKind.String)
            throw Wrong(Found, "write a string");
        try
        {
            return Value.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidDataException($"{Path}, {Place}: found bytes that are not UTF-8. Save the file as UTF-8.", e);
        }
    }

    public int Whole() => Value.ValueKind == JsonValueKind.Number && Value.TryGetInt32(out var number) ? number
        : throw Wrong(Found, "write a whole number");

    /// <summary>A text that must not be empty.</summary>
    public string Required(string field) => Field(field).Required();

    /// <summary>A text that must not be empty.</summary>
    public string Required() => Text() is { Length: > 0 } text ? text : throw Wrong("an empty text", "write one, or delete the row");

    private string Found => Value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        _ => Value.GetRawText(),
    };

    /// <summary>The file and the place in it.</summary>
    public string Where => $"{Path}, {Place}";

    public InvalidDataException Wrong(string found, string remedy) => new($"{Where}: found {found}; {remedy}.");
}
