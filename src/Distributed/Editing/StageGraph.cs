using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>Trips through a stage whose graphs wait for their backward half.</summary>
internal sealed class StageGraph : IDisposable
{
    private readonly IReadOnlyList<(Activations Below, Activations Top)> _trips;
    private readonly Tensor? _loss;
    private readonly List<Tensor> _owned = [];

    /// <param name="trips">What each trip was given and what came out.</param>
    /// <param name="loss">Of all trips together, on the last stage. [].</param>
    public StageGraph(IReadOnlyList<(Activations Below, Activations Top)> trips, Tensor? loss)
    {
        (_trips, _loss) = (trips, loss);
        foreach (var (below, top) in trips)
            Own(below.Hidden, below.Memory, top.Hidden, top.Memory);
        Own(loss);
    }

    public void Own(params IEnumerable<Tensor?> tensors)
    {
        foreach (var tensor in tensors.OfType<Tensor>())
            _owned.Add(tensor.DetachFromDisposeScope());
    }

    /// <param name="leaves">Tensors of the stage whose gradients are wanted.</param>
    /// <param name="above">Gradients of each trip's result, from the stage above; not read where the loss is.</param>
    /// <returns>d loss / d leaf, and for each trip d loss / d (what it was given) as far as that requires one.</returns>
    public (IReadOnlyList<Tensor> Leaves, IReadOnlyList<Boundary> Below) Backward(IReadOnlyList<Tensor> leaves,
        IReadOnlyList<Boundary> above)
    {
        var (outputs, seeds) = Seeds(above);
        List<Tensor> inputs = [.. leaves,
            .. _trips.SelectMany(trip => new[] { trip.Below.Hidden, trip.Below.Memory }).OfType<Tensor>()
            .Where(input => input.requires_grad)];
        var found = outputs.Count == 0 || inputs.Count == 0 ? [.. inputs.Select(_ => (Tensor?)null)]
            : Derivatives.OrNull(outputs, inputs, seeds);
        List<Tensor> gradients = [.. found.Select((gradient, i) => gradient ?? zeros_like(inputs[i]))];

        var next = leaves.Count;
        Tensor? Input(Tensor? input) => input is { requires_grad: true } ? gradients[next++] : null;
        var below = new List<Boundary>();
        for (var i = 0; i < _trips.Count; i++)
        {
            var (hidden, memory) = (Input(_trips[i].Below.Hidden), Input(_trips[i].Below.Memory));
            if (memory is not null && _loss is null && PassesThrough(_trips[i]) && above[i].Memory is { } passed)
                memory = memory.Plus(WireTensorCodec.Decode(passed, memory.device));
            below.Add(new(WireTensorCodec.EncodeOrNull(hidden), WireTensorCodec.EncodeOrNull(memory)));
        }
        return ([.. gradients.Take(leaves.Count)], below);
    }

    public void Dispose()
    {
        foreach (var tensor in _owned)
            tensor.Dispose();
    }

    /// <summary>Where the gradient starts: the loss, or what the stages above read of this one's results.</summary>
    private (List<Tensor> Outputs, List<Tensor> Seeds) Seeds(IReadOnlyList<Boundary> above)
    {
        List<Tensor> outputs = [], seeds = [];
        if (_loss is not null)
            return ([_loss], [ones_like(_loss)]);
        void Add(Tensor? output, WireTensor? seed)
        {
            if (output is not { requires_grad: true } || seed is null)
                return;
            outputs.Add(output);
            seeds.Add(WireTensorCodec.Decode(seed, output.device));
        }
        foreach (var (trip, seed) in _trips.Zip(above))
        {
            Add(trip.Top.Hidden, seed.Hidden);
            if (!PassesThrough(trip))
                Add(trip.Top.Memory, seed.Memory);
        }
        return (outputs, seeds);
    }

    /// <summary>A decoder stage hands the encoder's output on as it is.</summary>
    private static bool PassesThrough((Activations Below, Activations Top) trip) => trip.Top.Memory is not null
        && ReferenceEquals(trip.Top.Memory, trip.Below.Memory);
}
