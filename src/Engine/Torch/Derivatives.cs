using static TorchSharp.torch;

#pragma warning disable RS0030 // the plain calls

namespace MendCluster.Engine.Torch;

/// <summary>
/// Derivatives by autograd. An error in the native code of <c>autograd.grad</c> ends the process; <c>autograd.backward</c> hands it on as
/// an exception and leaves the same numbers in <c>grad</c>, from where they are taken here.
/// </summary>
public static class Derivatives
{
    /// <summary>d sum(outputs · seeds) / d input, of the shape of each input.</summary>
    /// <param name="seeds">Gradients of the outputs, of their shapes. None: the outputs are scalars, and 1.</param>
    /// <param name="retainGraph">The graph can be gone through again.</param>
    /// <exception cref="InvalidOperationException">An output does not depend on an input; see <see cref="OrNull"/>.</exception>
    /// <exception cref="System.Runtime.InteropServices.ExternalException">
    /// There is no graph, it is gone, or a shape does not fit.
    /// </exception>
    public static IReadOnlyList<Tensor> Of(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor>? seeds = null,
        bool retainGraph = false) =>
        [.. OrNull(outputs, inputs, seeds, retainGraph)
        .Select((gradient, i) => gradient ?? throw new InvalidOperationException($"no output depends on input {i}, {Show(inputs[i])}"))];

    /// <summary>The same; null of an input that no output depends on.</summary>
    public static IReadOnlyList<Tensor?> OrNull(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> inputs,
        IReadOnlyList<Tensor>? seeds = null, bool retainGraph = false)
    {
        if (outputs.Count == 0 || inputs.Count == 0 || (seeds is not null && seeds.Count != outputs.Count))
            throw new ArgumentException($"{outputs.Count} outputs, {inputs.Count} inputs and {seeds?.Count} seeds make no gradient");
        try
        {
            autograd.backward([.. outputs], seeds is null ? null : [.. seeds], retainGraph, create_graph: false, [.. inputs]);
            return [.. inputs.Select(input => input.grad)];
        }
        finally
        {
            foreach (var input in inputs)
                if (!input.IsInvalid)
                    input.grad = null;
        }
    }

    /// <summary>
    /// The same, with a graph of their own, for derivatives of derivatives. The outputs are scalars and depend on every input.
    /// </summary>
    /// <remarks>
    /// backward would warn here on the standard error, so this is autograd.grad; what would be its errors is looked for before.
    /// </remarks>
    /// <exception cref="InvalidOperationException">An output has no graph or is no scalar, or an input takes no part in one.</exception>
    public static IReadOnlyList<Tensor> WithGraph(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> inputs)
    {
        foreach (var output in outputs)
            if (!output.requires_grad || output.numel() != 1)
                throw new InvalidOperationException($"{Show(output)} {(output.requires_grad ? "is no scalar" : "has no graph")}");
        foreach (var input in inputs)
            if (!input.requires_grad)
                throw new InvalidOperationException($"{Show(input)} takes no part in a graph");
        return [.. autograd.grad([.. outputs], [.. inputs], retain_graph: true, create_graph: true)];
    }

    private static string Show(Tensor tensor) => $"{tensor.dtype} [{string.Join(", ", tensor.shape)}]";
}
