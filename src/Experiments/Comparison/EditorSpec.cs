using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Training;

namespace MendCluster.Experiments;

/// <summary>A row of a comparison: how its edits are made.</summary>
/// <param name="Name">As in the paper's tables.</param>
/// <param name="Digest">Tells it from another of the same name.</param>
public abstract record EditorSpec(string Name, string Digest)
{
    /// <summary>How many edits it can make at once; null: any number.</summary>
    public virtual int? MaxEdits => null;
}

/// <summary>A trained editor of any algorithm.</summary>
public sealed record TrainedEditor : EditorSpec
{
    /// <param name="file">Its safetensors file.</param>
    public TrainedEditor(string file)
        : this(file, Read(file))
    {
    }

    private TrainedEditor(string file, (string Name, EditorAlgorithm Algorithm, IReadOnlyList<string> Editable) read)
        : base(read.Name, Experiments.Digest.OfFile(file)) => (File, Algorithm, Editable) = (file, read.Algorithm, read.Editable);

    public string File { get; }

    public EditorAlgorithm Algorithm { get; }

    /// <summary>The names of the weights that it changes.</summary>
    public IReadOnlyList<string> Editable { get; }

    /// <summary>
    /// Each edit as strong as it has to be for this probability of its target (<see cref="EditScaleSearch"/>), as through the cluster.
    /// Null: as in the paper.
    /// </summary>
    public double? Confidence { get; private init; }

    /// <summary>By which its edits are multiplied.</summary>
    public double Strength { get; private init; } = 1;

    /// <summary>KE reads the text of one edit, and a strength is that of one edit.</summary>
    public override int? MaxEdits => Confidence is not null ? 1 : EditorRegistry.Of(Algorithm).MaxEdits;

    /// <summary>
    /// The same editor with <see cref="Confidence"/>, for one edit at a time; null of KE and ENN, whose edits have no strength.
    /// </summary>
    public TrainedEditor? Searched(double confidence) => Algorithm is EditorAlgorithm.Ke or EditorAlgorithm.Enn ? null
        : this with
        {
            Name = FormattableString.Invariant($"{Name}, to {confidence}"),
            Digest = FormattableString.Invariant($"{Digest} to {confidence}"),
            Confidence = confidence
        };

    /// <summary>The same editor with <see cref="Strength"/>; of MEND and MALMEN.</summary>
    public TrainedEditor AtStrength(double strength) => this with
    {
        Name = FormattableString.Invariant($"{Name}, times {strength}"),
        Digest = FormattableString.Invariant($"{Digest} times {strength}"),
        Strength = strength
    };

    /// <summary>
    /// Editors with names of their own: where two would have the same, their digests are added. The same file twice is one.
    /// </summary>
    public static IReadOnlyList<TrainedEditor> OfFiles(IEnumerable<string> files) =>
        [.. files.Select(file => new TrainedEditor(file)).DistinctBy(editor => editor.Digest).GroupBy(editor => editor.Name)
            .SelectMany(same => same.Count() == 1 ? same
                : same.Select(editor => editor with { Name = $"{editor.Name} {editor.Digest[..6]}" }))];

    /// <summary>Named by the algorithm, and by which ablation of the paper (table 6) it is.</summary>
    private static (string Name, EditorAlgorithm Algorithm, IReadOnlyList<string> Editable) Read(string file)
    {
        using var checkpoint = EditorCheckpoint.Open(file);
        var kind = EditorRegistry.Of(checkpoint.Algorithm);
        var name = kind.Name + kind.Variant?.Invoke(checkpoint);
        var parts = checkpoint.Algorithm != EditorAlgorithm.Mend ? [] : new (bool Is, string Name)[]
        {
            (!checkpoint.Options.Norm, "no norm"),
            (checkpoint.Options.Init == EditorInit.Xavier, "no identity init"),
            (checkpoint.Options.Sides == EditorSides.Separate, "u and delta apart"),
            (checkpoint.Options.Sides == EditorSides.UOnly, "only u"),
            (checkpoint.Options.Sides == EditorSides.DeltaOnly, "only delta"),
            (checkpoint.Options.Sides == EditorSides.Smaller, "only smaller"),
            (!checkpoint.Options.Shared, "not shared"),
            (checkpoint.Options.Reference, "as published"),
        };
        return (string.Join(", ", parts.Where(part => part.Is).Select(part => part.Name).Prepend(name)), checkpoint.Algorithm,
            [.. checkpoint.Weights.Select(weight => weight.Name)]);
    }
}

/// <summary>FT, or with unrelated rows FT+KL.</summary>
public sealed record FineTunedEditor : EditorSpec
{
    /// <param name="editable">Weights; none: the family's choice.</param>
    /// <param name="unrelated">
    /// What FT+KL draws from, a row a step; rows that the case asks itself are left out. Null: plain FT.
    /// </param>
    public FineTunedEditor(FineTuneOptions options, IReadOnlyList<string> editable, IReadOnlyList<TokenRow>? unrelated = null)
        : base(unrelated is null ? "FT" : "FT+KL",
            Experiments.Digest.OfText($"{JsonSerializer.Serialize(options)} {string.Join(' ', editable)} {(unrelated is null ? "" : Experiments.Digest.OfRows(unrelated))}")) =>
        (Options, Editable, Unrelated) = (options, editable, unrelated);

    public FineTuneOptions Options { get; }

    public IReadOnlyList<string> Editable { get; }

    public IReadOnlyList<TokenRow>? Unrelated { get; }
}

/// <summary>Fine-tuning with epochs over all edits, of one weight.</summary>
public sealed record BreadthFirstEditor : EditorSpec
{
    /// <param name="known">What is asked again between the edits' steps, where the options have a weight for it.</param>
    public BreadthFirstEditor(BreadthFirstOptions options, IReadOnlyList<TokenRow>? known = null)
        : base(FormattableString.Invariant($"FT, breadth-first{(options.Replay > 0 ? $", replay {options.Replay}" : "")}"),
            Experiments.Digest.OfText(JsonSerializer.Serialize(options) + (options.Replay > 0 ? Experiments.Digest.OfRows(known ?? []) : ""))) =>
        (Options, Known) = (options, known ?? []);

    public BreadthFirstOptions Options { get; }

    public IReadOnlyList<TokenRow> Known { get; }
}

/// <summary>UltraEdit, whose statistics are those of the edits that it has made so far.</summary>
public sealed record UntrainedUltraEdit : EditorSpec
{
    /// <param name="editable">Weights; none: the family's choice.</param>
    /// <param name="turn">Edits at once, at most; more are made in turns of so many, each on the model as the ones before it left it.</param>
    public UntrainedUltraEdit(UltraEditOptions options, IReadOnlyList<string> editable, int turn = int.MaxValue)
        : base(turn == int.MaxValue ? "UltraEdit" : $"UltraEdit, {turn} a turn",
            Experiments.Digest.OfText($"{JsonSerializer.Serialize(options)} {string.Join(' ', editable)}{(turn == int.MaxValue ? "" : $" {turn}")}")) =>
            (Options, Editable, Turn) = (options, editable, turn);

    public UltraEditOptions Options { get; }

    public IReadOnlyList<string> Editable { get; }

    public int Turn { get; }
}
