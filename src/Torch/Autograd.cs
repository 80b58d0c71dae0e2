using MendCluster.Torch;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>No graph is recorded on this thread until the result is disposed of.</summary>
    public static IDisposable no_grad() => new GradMode(false);

    public static IDisposable enable_grad(bool enabled = true) => new GradMode(enabled);

    public static IDisposable set_grad_enabled(bool mode = true) => new GradMode(mode);

    public static bool is_grad_enabled()
    {
        LibraryLoader.EnsureLoaded();
        return Native.mt_grad_enabled() != 0;
    }

    private sealed class GradMode : IDisposable
    {
        private readonly bool _before = is_grad_enabled();

        public GradMode(bool enabled) => Native.mt_set_grad_enabled(enabled ? 1 : 0);

        public void Dispose() => Native.mt_set_grad_enabled(_before ? 1 : 0);
    }

    public static class autograd
    {
        /// <summary>d outputs / d inputs, summed over the outputs.</summary>
        /// <param name="grad_outputs">Gradients at the outputs; needed where an output is not a scalar.</param>
        /// <param name="retain_graph">Keeps what a second call over the same graph needs; also needed with create_graph, as in TorchSharp.</param>
        /// <param name="allow_unused">Whether an input may have no part in the outputs; its gradient is then null or, in TorchSharp, invalid.</param>
        public static unsafe IList<Tensor> grad(IList<Tensor> outputs, IList<Tensor> inputs, IList<Tensor>? grad_outputs = null,
            bool retain_graph = false, bool create_graph = false, bool allow_unused = false)
        {
            if (grad_outputs is not null && grad_outputs.Count != outputs.Count)
                throw new ArgumentException($"autograd.grad: {outputs.Count} outputs but {grad_outputs.Count} gradients for them");
            var (from, to, seeds) = (Pointers(outputs), Pointers(inputs), grad_outputs is null ? null : Pointers(grad_outputs));
            var found = new nint[inputs.Count];
            bool failed;
            fixed (nint* outputPointers = from, inputPointers = to, seedPointers = seeds, foundPointers = found)
                failed = Native.mt_grad(outputPointers, from.Length, inputPointers, to.Length, seedPointers,
                    retain_graph ? 1 : 0, create_graph ? 1 : 0, allow_unused ? 1 : 0, foundPointers) != 0;
            GC.KeepAlive(outputs);
            GC.KeepAlive(inputs);
            GC.KeepAlive(grad_outputs);
            if (failed)
                throw Dispatcher.Failure($"autograd.grad of {string.Join(", ", outputs)} by {string.Join("; ", inputs)}");
            return Array.ConvertAll(found, pointer => pointer == 0 ? null! : new Tensor(pointer));
        }

        private static nint[] Pointers(IList<Tensor> tensors) => [.. tensors.Select(tensor => tensor.Pointer("autograd.grad"))];
    }
}
