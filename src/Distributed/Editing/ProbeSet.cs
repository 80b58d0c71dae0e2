using System.Text;
using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>A question that no edit is about, and its right answer.</summary>
public sealed record Probe(string Question, string Answer);

/// <summary>The unrelated questions that every candidate is tried on, in the tokens of a model: they are the same for every edit.</summary>
public sealed class ProbeSet
{
    /// <summary>What the file is called in a model's directory.</summary>
    public const string FileName = "probes.tsv";

    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <exception cref="MendException">A probe has no tokens or too many for the model.</exception>
    public ProbeSet(IReadOnlyList<Probe> probes, ModelText text) =>
        (Probes, Tokens) = (probes, probes.Count == 0 ? null : text.Batch([.. probes.Select(probe => Row(probe, text))]));

    public IReadOnlyList<Probe> Probes { get; }

    /// <summary>All of them with their answers as labels; null where there are none.</summary>
    public TokenBatch? Tokens { get; }

    /// <summary>The probes in a model's directory; none where it has no such file.</summary>
    public static IReadOnlyList<Probe> Beside(string model) => Path.Combine(model, FileName) is var file && File.Exists(file) ? Read(file)
        : [];

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

    private static TokenRow Row(Probe probe, ModelText text)
    {
        try
        {
            return text.Row(probe.Question, probe.Answer);
        }
        catch (MendException e)
        {
            throw new MendException(MendError.InvalidOption,
                $"The probe \"{probe.Question}\" with the answer \"{probe.Answer}\" cannot be asked: {e.Message}",
                "Correct the probe, or leave it out.", e);
        }
    }
}
