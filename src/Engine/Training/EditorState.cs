using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// An editor with all that changes when it is trained: phi and alpha, Adam's moments, the running average. By groups: the networks of a
/// shape each, and alpha. A stage's part has the same names and order as the whole, of the groups that it has.
/// </summary>
public sealed class EditorState : IDisposable
{
    /// <summary>The group of alpha. The others are named as the shapes.</summary>
    public const string AlphaGroup = "edit_lrs";

    private readonly Dictionary<string, Tensor> _tensors = [];

    /// <param name="mend">The state takes it over.</param>
    public EditorState(Mend mend, EditorTrainingOptions options)
    {
        Mend = mend;
        Adam = new(EditorOptimiser.GroupsOf(mend, options.Lr, options.LrLr));
        Average = options.Averaging > 0 ? new([.. Adam.Parameters.Select(parameter => parameter.Value)], options.Averaging) : null;
        Parameters = mend.Shapes.Select(shape => (shape.Key, shape.Parameters)).Append((AlphaGroup, [(AlphaGroup, mend.Alpha)]))
            .ToDictionary(entry => entry.Item1, entry => entry.Item2);
        foreach (var (name, value) in Adam.Parameters.Concat(Adam.State)
            .Concat(Adam.Parameters.Zip(Average?.State ?? [], (parameter, average) => ("average." + parameter.Name, average.Value))))
            _tensors.Add(name, value);
    }

    public Mend Mend { get; }

    public Adam Adam { get; }

    public ParameterAverage? Average { get; }

    /// <summary>By group: names and values, in the order of the group's gradient.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<(string Name, Tensor Value)>> Parameters { get; }

    /// <summary>Every tensor of a group's state: parameters, moments, average. float32, contiguous.</summary>
    public IEnumerable<(string Name, Tensor Value)> TensorsOf(string group) => Parameters[group]
        .SelectMany(parameter => new[] { "", "adam.m.", "adam.v.", "average." }.Select(prefix => prefix + parameter.Name))
        .Where(_tensors.ContainsKey).Select(name => (name, _tensors[name]));

    /// <summary>A tensor of the state by name.</summary>
    public Tensor this[string name] => _tensors.TryGetValue(name, out var found) ? found
        : throw Fault.Editor($"the state of this editor has no '{name}'; it has the groups {string.Join(", ", Parameters.Keys)}");

    /// <summary>Says where Adam and average stand, whose tensors were written one by one.</summary>
    public void Mark(long adamSteps, long averageSteps)
    {
        using var scope = NewDisposeScope();
        Adam.Restore(adamSteps, name => _tensors[name]);
        if (Average is not null)
            Average.Steps = averageSteps;
    }

    public void Dispose()
    {
        Average?.Dispose();
        Adam.Dispose();
        Mend.Dispose();
    }
}
