using System.Diagnostics.CodeAnalysis;
using MendCluster.Contracts;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;
using Orleans.Serialization.Buffers;
using Orleans.Serialization.Cloning;
using Orleans.Serialization.Codecs;
using Orleans.Serialization.Serializers;
using Orleans.Serialization.WireProtocol;
using WireType = Orleans.Serialization.WireProtocol.WireType;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// Every record of Contracts on Orleans' wire, in the form of <see cref="ContractFormat"/>: field 0 the type, 1 the JSON, 2 and again 2 the
/// tensors. Records are never changed, so within a silo they are handed over and not copied.
/// </summary>
[Alias("mend.contract")]
public sealed class ContractCodec : IGeneralizedCodec, IGeneralizedCopier, ITypeFilter
{
    /// <summary>A larger message would break the connection that it shares with others. Senders cut it into pieces long before.</summary>
    public const int MostBytes = 64 << 20;

    private static readonly Type Self = typeof(ContractCodec);

    void IFieldCodec.WriteField<TBufferWriter>(ref Writer<TBufferWriter> writer, uint fieldIdDelta, [AllowNull] Type expectedType, [AllowNull] object value)
    {
        if (ReferenceCodec.TryWriteReferenceField(ref writer, fieldIdDelta, expectedType!, value!))
            return;
        var parts = ContractFormat.Write(value!, value!.GetType());
        var length = parts.Sum(part => (long)part.Length);
        if (length > MostBytes)
            throw new MendException(MendError.TooLong, $"A message of {value.GetType().Name} has {length:N0} bytes; at most {MostBytes:N0} travel at once.", "Ask for less at once.");
        writer.WriteFieldHeader(fieldIdDelta, expectedType!, Self, WireType.TagDelimited);
        ReferenceCodec.MarkValueField(writer.Session);
        writer.WriteFieldHeaderExpected(0, WireType.LengthPrefixed);
        writer.Session.TypeCodec.WriteLengthPrefixed(ref writer, value.GetType());
        for (var i = 0; i < parts.Count; i++)
        {
            ReferenceCodec.MarkValueField(writer.Session);
            writer.WriteFieldHeaderExpected(i < 2 ? 1u : 0u, WireType.LengthPrefixed);
            writer.WriteVarUInt32((uint)parts[i].Length);
            writer.Write(parts[i]);
        }
        writer.WriteEndObject();
    }

    object? IFieldCodec.ReadValue<TInput>(ref Reader<TInput> reader, Field field)
    {
        if (field.IsReference)
            return ReferenceCodec.ReadReference(ref reader, field.FieldType);
        field.EnsureWireTypeTagDelimited();
        var placeholder = ReferenceCodec.CreateRecordPlaceholder(reader.Session);
        Type? type = null;
        List<byte[]> parts = [];
        uint id = 0;
        for (var header = reader.ReadFieldHeader(); !header.IsEndBaseOrEndObject; header = reader.ReadFieldHeader())
        {
            id += header.FieldIdDelta;
            if (id > 2)
            {
                reader.ConsumeUnknownField(header);
                continue;
            }
            ReferenceCodec.MarkValueField(reader.Session);
            if (id == 0)
            {
                type = reader.Session.TypeCodec.ReadLengthPrefixed(ref reader);
                continue;
            }
            var length = reader.ReadVarUInt32();
            reader.EnsureAvailable(length); // before anything is allocated: the length may lie
            parts.Add(reader.ReadBytes(length));
        }
        if (type is null || !IsContract(type) || parts.Count == 0)
            throw new InvalidDataException($"a message of {type?.Name ?? "no type"} in {parts.Count} parts arrived");
        var value = ContractFormat.Read(type, parts);
        ReferenceCodec.RecordObject(reader.Session, value, placeholder);
        return value;
    }

    object? IDeepCopier.DeepCopy(object? input, CopyContext context) => input;

    bool IGeneralizedCodec.IsSupportedType(Type type) => type == Self || IsContract(type);

    bool IGeneralizedCopier.IsSupportedType(Type type) => IsContract(type);

    bool? ITypeFilter.IsTypeAllowed(Type type) => type == Self || IsContract(type) || type == typeof(MendException) ? true : null;

    private static bool IsContract(Type type) => type.Assembly == typeof(IModelShard).Assembly && !type.IsInterface && !type.IsEnum && type != typeof(MendException);
}

public static class ContractSerialization
{
    /// <summary>Lets a silo or a client send and receive the records of Contracts.</summary>
    public static IServiceCollection AddContractSerialization(this IServiceCollection services) => services
        .AddSerializer()
        .AddSingleton<ContractCodec>()
        .AddSingleton<IGeneralizedCodec>(provider => provider.GetRequiredService<ContractCodec>())
        .AddSingleton<IGeneralizedCopier>(provider => provider.GetRequiredService<ContractCodec>())
        .AddSingleton<ITypeFilter>(provider => provider.GetRequiredService<ContractCodec>());
}
