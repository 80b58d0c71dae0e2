using MendCluster.Contracts;
using Orleans.Serialization.Buffers;
using Orleans.Serialization.Codecs;
using Orleans.Serialization.WireProtocol;
using WireTypeOfOrleans = Orleans.Serialization.WireProtocol.WireType;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// A tensor on Orleans' wire: field 0 its type, 1 its dimensions, 2 its bytes as they are. Written by hand because it knows how long its
/// message has become: one that is longer than Orleans sends would take down the connection that it shares, and is refused before.
/// </summary>
/// <param name="shapes">Of the dimensions.</param>
[RegisterSerializer]
public sealed class WireTensorFieldCodec(IFieldCodec<long[]> shapes) : IFieldCodec<WireTensor>
{
    /// <summary>Of tensors in a message; less than <see cref="Array.MaxLength"/>, which an array of bytes may have.</summary>
    public const int MaxMessageBytes = 1 << 30;

    void IFieldCodec<WireTensor>.WriteField<TBufferWriter>(
        ref Writer<TBufferWriter> writer, uint fieldIdDelta, Type? expectedType, WireTensor? value)
    {
        if (ReferenceCodec.TryWriteReferenceField(ref writer, fieldIdDelta, expectedType!, value!))
            return;
        var length = (long)writer.Position + value!.Bytes.Length;
        if (length > MaxMessageBytes)
            throw new MendException(MendError.TooLong,
                $"A message with a tensor [{string.Join(", ", value.Shape)}] has {length:N0} bytes; at most {MaxMessageBytes:N0} travel.",
                "Ask for less at once: a shorter text, or fewer probes.");
        writer.WriteFieldHeader(fieldIdDelta, expectedType!, typeof(WireTensor), WireTypeOfOrleans.TagDelimited);
        Int32Codec.WriteField(ref writer, 0, (int)value.Type);
        shapes.WriteField(ref writer, 1, typeof(long[]), value.Shape);
        ReadOnlyMemoryOfByteCodec.WriteField(ref writer, 1, value.Bytes);
        writer.WriteEndObject();
    }

    WireTensor? IFieldCodec<WireTensor>.ReadValue<TInput>(ref Reader<TInput> reader, Field field)
    {
        if (field.IsReference)
            return ReferenceCodec.ReadReference<WireTensor, TInput>(ref reader, field);
        field.EnsureWireTypeTagDelimited();
        var placeholder = ReferenceCodec.CreateRecordPlaceholder(reader.Session);
        DType type = default;
        long[]? shape = null;
        ReadOnlyMemory<byte> bytes = default;
        uint id = 0;
        for (var header = reader.ReadFieldHeader(); !header.IsEndBaseOrEndObject; header = reader.ReadFieldHeader())
            switch (id += header.FieldIdDelta)
            {
                case 0:
                    type = (DType)Int32Codec.ReadValue(ref reader, header);
                    break;
                case 1:
                    shape = shapes.ReadValue(ref reader, header);
                    break;
                case 2:
                    bytes = ReadOnlyMemoryOfByteCodec.ReadValue(ref reader, header); // looks whether they are there before it makes room
                    break;
                default:
                    reader.ConsumeUnknownField(header);
                    break;
            }
        var tensor = new WireTensor(type, shape ?? [], bytes);
        ReferenceCodec.RecordObject(reader.Session, tensor, placeholder);
        return tensor;
    }
}
