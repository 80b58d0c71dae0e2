using System.Text.Json;
using MendCluster.Contracts;

namespace MendCluster.Engine.Tokenizers;

/// <summary>A value of a JSON file that knows where it stands, so that every refusal can say it.</summary>
/// <param name="Where">Path of keys from the root.</param>
internal readonly record struct JsonValue(string File, string Where, JsonElement Element)
{
    public bool IsNull => Element.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined;

    public bool IsObject => Element.ValueKind == JsonValueKind.Object;

    public bool IsList => Element.ValueKind == JsonValueKind.Array;

    public bool IsText => Element.ValueKind == JsonValueKind.String;

    /// <summary>The value of a key; null where the object lacks it or there is no object.</summary>
    public JsonValue this[string key]
    {
        get
        {
            if (!IsNull && !IsObject)
                throw Error($"is {Element.ValueKind}, expected an object with '{key}'");
            return new(File, $"{Where}.{key}", IsObject && Element.TryGetProperty(key, out var value) ? value : default);
        }
    }

    public string Text
    {
        get
        {
            if (!IsText)
                throw Error($"is {Element.ValueKind}, expected a text");
            try
            {
                return Element.GetString()!;
            }
            catch (InvalidOperationException e)
            {
                throw Error("is a text with half a surrogate pair; the file is damaged", e);
            }
        }
    }

    public int Whole => Element.ValueKind == JsonValueKind.Number && Element.TryGetInt32(out var number) ? number
        : throw Error($"is {(IsNull ? "missing" : Element.GetRawText())}, expected a whole number of 32 bits");

    public float Float => Element.ValueKind == JsonValueKind.Number && Element.TryGetSingle(out var number) ? number
        : throw Error($"is {(IsNull ? "missing" : Element.GetRawText())}, expected a number");

    public double Double => Element.ValueKind == JsonValueKind.Number && Element.TryGetDouble(out var number) ? number
        : throw Error($"is {(IsNull ? "missing" : Element.GetRawText())}, expected a number");

    public IEnumerable<JsonValue> Items
    {
        get
        {
            if (!IsList)
                throw Error($"is {Element.ValueKind}, expected a list");
            var self = this;
            return Element.EnumerateArray().Select((item, i) => new JsonValue(self.File, $"{self.Where}[{i}]", item));
        }
    }

    public IEnumerable<(string Key, JsonValue Value)> Members
    {
        get
        {
            if (!IsObject)
                throw Error($"is {Element.ValueKind}, expected an object");
            var self = this;
            return Element.EnumerateObject().Select(member => (Key: self.Name(member), member.Value))
                .Select(member => (member.Key, new JsonValue(self.File, $"{self.Where}.{member.Key}", member.Value)));
        }
    }

    /// <summary>None where there is no object.</summary>
    public IEnumerable<(string Key, JsonValue Value)> MembersIfAny => IsNull ? [] : Members;

    public static JsonValue Read(string file)
    {
        try
        {
            return new(file, "$", JsonSerializer.Deserialize<JsonElement>(PythonJson.ToJson(TokenizerFiles.ReadText(file))));
        }
        catch (JsonException e)
        {
            throw Fault.File(file, $"line {e.LineNumber + 1}", $"is not JSON ({e.Message}); the file is cut or damaged", e);
        }
    }

    public bool Flag(bool otherwise) => Element.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Null or JsonValueKind.Undefined => otherwise,
        _ => throw Error($"is {Element.GetRawText()}, expected true or false"),
    };

    public MendException Error(string message, Exception? inner = null) => Fault.File(File, Where, message, inner);

    private string Name(JsonProperty member)
    {
        try
        {
            return member.Name;
        }
        catch (InvalidOperationException e)
        {
            throw Error("has a key with half a surrogate pair; the file is damaged", e);
        }
    }
}
