using System.Text;
using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>A question that no edit is about, and its right answer.</summary>
public sealed record Probe(string Question, string Answer)
{
    /// <param name="what">It is, for the error.</param>
    /// <exception cref="MendException">It has no tokens or too many for the model.</exception>
    internal TokenRow Row(string what, ModelText text)
    {
        try
        {
            return text.Row(Question, Answer);
        }
        catch (MendException e)
        {
            throw new MendException(MendError.InvalidOption,
                $"The {what} \"{Question}\" with the answer \"{Answer}\" cannot be asked: {e.Message}", "Correct it, or leave it out.", e);
        }
    }
}

/// <summary>
/// The unrelated questions that candidates are tried on, in the tokens of a model. The first of them are the same for every edit; of the
/// others each edit is tried on those whose text is nearest to its own prompt, for these it would spoil first.
/// </summary>
public sealed class ProbeSet
{
    /// <summary>The first so many are asked at every edit.</summary>
    public const int MaxFixed = 100;

    /// <summary>Of the others, so many at an edit.</summary>
    public const int MaxNearest = 16;

    /// <summary>What the file is called in a model's directory.</summary>
    public const string FileName = "probes.tsv";

    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    private readonly List<Probe> _others;
    private readonly List<TokenRow> _rows; // of the others
    private readonly ModelText _text;
    private readonly Lazy<TrigramIndex> _index; // of the others

    /// <exception cref="MendException">A probe has no tokens or too many for the model.</exception>
    public ProbeSet(IReadOnlyList<Probe> probes, ModelText text)
    {
        List<TokenRow> rows = [.. probes.Select(probe => probe.Row("probe", text))];
        (Count, Fixed) = (probes.Count, [.. probes.Take(MaxFixed)]);
        FixedRows = rows[..Fixed.Count];
        Tokens = probes.Count == 0 ? null : text.Batch(FixedRows);
        (_others, _rows, _text) = ([.. probes.Skip(MaxFixed)], rows[Fixed.Count..], text);
        _index = new(() => new([.. _others.Select(probe => probe.Question)]));
    }

    public int Count { get; }

    /// <summary>Asked at every edit.</summary>
    public IReadOnlyList<Probe> Fixed { get; }

    /// <summary>The same in tokens.</summary>
    internal IReadOnlyList<TokenRow> FixedRows { get; }

    /// <summary>Of <see cref="Fixed"/>, with their answers as labels; null where there are none.</summary>
    public TokenBatch? Tokens { get; }

    /// <summary>
    /// Of the probes that are not fixed those nearest to the prompts: <see cref="MaxNearest"/> in all, but one for each prompt at least.
    /// </summary>
    /// <param name="prompts">Of edits that are tried together.</param>
    /// <param name="edited">Prompts of earlier edits. A probe that asks the same is about something that was to change.</param>
    /// <returns>Null: there are none.</returns>
    internal NearProbes? Nearest(IReadOnlyList<string> prompts, IEnumerable<string> edited)
    {
        if (_others.Count == 0)
            return null;
        var asked = prompts.Concat(edited).ToHashSet(StringComparer.OrdinalIgnoreCase);
        var (each, taken) = ((MaxNearest + prompts.Count - 1) / prompts.Count, new SortedSet<int>());
        foreach (var prompt in prompts)
            taken.UnionWith(_index.Value.MostLike(prompt).Where(place => !taken.Contains(place) && !asked.Contains(_others[place].Question)).Take(each));
        List<TokenRow> rows = [.. taken.Select(place => _rows[place])];
        return rows.Count == 0 ? null : new([.. taken.Select(place => _others[place])], rows, _text.Batch(rows));
    }

    /// <summary>The probes in a model's directory; none where it has no such file.</summary>
    /// <param name="name">Of another file of the same form.</param>
    /// <exception cref="InvalidDataException">A line of another form, by its number.</exception>
    public static IReadOnlyList<Probe> Beside(string model, string name = FileName) =>
        Path.Combine(model, name) is var file && File.Exists(file) ? Read(file) : [];

    /// <summary>Reads a file of lines <c>question TAB answer</c>.</summary>
    /// <exception cref="InvalidDataException">A line of another form, by its number.</exception>
    public static IReadOnlyList<Probe> Read(string path)
    {
        try
        {
            return [.. File.ReadLines(path, Strict).Index().Where(line => TextBatch.WithoutEnds(line.Item).Length > 0).Select(line =>
                line.Item.Split('\t').Select(TextBatch.WithoutEnds).ToList() is [{ Length: > 0 } question, { Length: > 0 } answer]
                ? new Probe(question, answer)
                    : throw new InvalidDataException($"{path}: line {line.Index + 1}: expected a question, a tab and its answer, found '{line.Item}'"))];
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{path}: found bytes that are not UTF-8. Save the file as UTF-8.", e);
        }
    }
}

/// <summary>Those of an edit, or of some that are tried together.</summary>
/// <param name="Rows">The same in tokens.</param>
/// <param name="Tokens">With their answers as labels.</param>
internal sealed record NearProbes(IReadOnlyList<Probe> Probes, IReadOnlyList<TokenRow> Rows, TokenBatch Tokens);
