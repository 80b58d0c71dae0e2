using MendCluster.Contracts;

namespace MendCluster.Distributed;

/// <summary>Failures as a layer tells them that knows what was wanted.</summary>
internal static class Failures
{
    /// <summary>Says what could not be done because of a failure, and what to do now.</summary>
    public static MendException Because(this Exception cause, MendError error, string what, string hint) =>
        new(error, $"{what}: {(cause is MendException known ? known.What : cause.Message)}", hint, cause);
}
