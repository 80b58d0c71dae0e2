using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Contracts;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// A record of Contracts as bytes: JSON, and beside it the bytes of its tensors as they are. So Contracts needs no attributes of a
/// serializer, a record may gain a property without a word here, and a tensor is copied by nobody on the way to the socket.
/// </summary>
public static class ContractFormat
{
    private static readonly JsonSerializerOptions Json = new()
    {
        Converters = { new TensorConverter() },
        IgnoreReadOnlyProperties = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    /// <summary>Tensors of the message that this thread is writing or reading just now; a converter has no other way to them.</summary>
    [ThreadStatic]
    private static List<byte[]>? _tensors;

    /// <returns>The JSON, then the bytes of each tensor.</returns>
    public static List<byte[]> Write(object value, Type type)
    {
        List<byte[]> parts = [[]];
        _tensors = parts;
        try
        {
            parts[0] = JsonSerializer.SerializeToUtf8Bytes(value, type, Json);
            return parts;
        }
        finally
        {
            _tensors = null;
        }
    }

    /// <exception cref="InvalidDataException">The bytes are not those of such a record.</exception>
    public static object Read(Type type, List<byte[]> parts)
    {
        _tensors = parts;
        try
        {
            return JsonSerializer.Deserialize(parts[0], type, Json) ?? throw new InvalidDataException($"a message of {type.Name} is null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"a message of {type.Name} cannot be read: {e.Message}", e);
        }
        finally
        {
            _tensors = null;
        }
    }

    /// <summary>[type, part, dimension, dimension, ...]</summary>
    private sealed class TensorConverter : JsonConverter<WireTensor>
    {
        public override void Write(Utf8JsonWriter writer, WireTensor value, JsonSerializerOptions options)
        {
            writer.WriteStartArray();
            writer.WriteNumberValue((int)value.Type);
            writer.WriteNumberValue(_tensors!.Count);
            foreach (var dimension in value.Shape)
                writer.WriteNumberValue(dimension);
            writer.WriteEndArray();
            _tensors.Add(value.Bytes);
        }

        public override WireTensor Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options)
        {
            var numbers = JsonSerializer.Deserialize<long[]>(ref reader) ?? [];
            return numbers is [var kind, > 0 and var part, .. var shape] && part < _tensors!.Count
                ? new((Contracts.WireType)kind, shape, _tensors[(int)part])
                : throw new JsonException("a tensor has no bytes");
        }
    }
}
