using MendCluster.Contracts;

namespace MendCluster.Grains.Interfaces;

/// <summary>A <see cref="MendException"/> on the wire: code, message and hint arrive as they were.</summary>
[GenerateSerializer, Alias("mend.MendException")]
public readonly record struct MendExceptionSurrogate([property: Id(0)] int Error, [property: Id(1)] string Message,
    [property: Id(2)] string Hint);

[RegisterConverter]
public sealed class MendExceptionConverter : IConverter<MendException, MendExceptionSurrogate>
{
    public MendException ConvertFromSurrogate(in MendExceptionSurrogate surrogate) =>
        new((MendError)surrogate.Error, surrogate.Message, surrogate.Hint);

    public MendExceptionSurrogate ConvertToSurrogate(in MendException value) =>
        new((int)value.Error, value.What, value.Hint);
}
