namespace MendCluster.Experiments;

/// <summary>Unlike <see cref="Progress{T}"/>, reports on the caller's thread and in order.</summary>
public sealed class SynchronousProgress<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}
