using static TorchSharp.torch;

namespace TorchSharp;

/// <summary>
/// Disposes of every tensor that was made on this thread since it was opened, unless the tensor was moved out. Scopes nest and belong to
/// their thread: never <c>await</c> inside one.
/// </summary>
public sealed class DisposeScope : IDisposable
{
    [ThreadStatic]
    private static DisposeScope? s_current;

    private readonly HashSet<Tensor> _tensors = new(ReferenceEqualityComparer.Instance);
    private readonly DisposeScope? _outer;
    private bool _closed;

    internal DisposeScope() => (_outer, s_current) = (s_current, this);

    internal static DisposeScope? Current => s_current;

    /// <summary>Tensors that this scope would dispose of now.</summary>
    public int DisposablesCount => _tensors.Count;

    /// <summary>Gives the tensor to the scope around this one, or to nobody when there is none.</summary>
    public T MoveToOuter<T>(T disposable) where T : IDisposable
    {
        if (disposable is Tensor tensor)
            tensor.MoveToOuterDisposeScope();
        return disposable;
    }

    /// <summary>From now on the tensor is disposed of by its owner alone.</summary>
    public T Detach<T>(T disposable) where T : IDisposable
    {
        if (disposable is Tensor tensor)
            tensor.DetachFromDisposeScope();
        return disposable;
    }

    public void Dispose()
    {
        if (_closed)
            return;
        if (s_current != this)
            throw new InvalidOperationException("a dispose scope was closed on another thread, or before one that was opened inside it");
        (_closed, s_current) = (true, _outer);
        foreach (var tensor in _tensors)
        {
            tensor.Scope = null;
            tensor.Dispose();
        }
        _tensors.Clear();
    }

    internal void Add(Tensor tensor)
    {
        _tensors.Add(tensor);
        tensor.Scope = this;
    }

    internal void Remove(Tensor tensor)
    {
        _tensors.Remove(tensor);
        tensor.Scope = null;
    }

    internal void MoveOut(Tensor tensor)
    {
        Remove(tensor);
        _outer?.Add(tensor);
    }
}

public static partial class torch
{
    /// <summary>Opens a scope; dispose of it with <c>using</c>.</summary>
    public static DisposeScope NewDisposeScope() => new();
}
