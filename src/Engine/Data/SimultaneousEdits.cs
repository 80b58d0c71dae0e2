using MendCluster.Engine.Training;

namespace MendCluster.Engine.Data;

/// <summary>Many edits as one batch, of training or of evaluation.</summary>
public static class SimultaneousEdits
{
    /// <summary>Locality questions of each edit in a training step of many: they are most of its cost, and all edits share them.</summary>
    private const int LocalityOfEach = 3;

    /// <summary>The edits as one batch: without locality questions that ask what one of the others changes.</summary>
    public static IReadOnlyList<EditRows> Together(IReadOnlyList<EditRows> edits)
    {
        var edited = edits.SelectMany(edit => edit.Rephrases.Append(edit.Edit)).Select(row => row.Prompt).ToHashSet();
        return [.. edits.Select(edit => edit with { Locality = [.. edit.Locality.Where(row => !edited.Contains(row.Prompt))] })];
    }

    /// <summary>
    /// The edits as a training step's batch: one rephrase of each as x'_e; all locality questions as x_loc, of many edits some of each.
    /// </summary>
    /// <param name="rng">Picks the rephrases, and the locality questions of many edits.</param>
    public static EditBatch Batch(TextBatch text, IReadOnlyList<EditRows> edits, Prng rng)
    {
        var together = edits.Count == 1 ? edits : Together(edits);
        if (together.All(edit => edit.Locality.Count == 0))
            throw new InvalidDataException($"{edits.Count} edits at once leave no question about anything else: take fewer, or edits with more such questions");
        return new(
            text.Of([.. together.Select(edit => edit.Edit)]),
            text.Of([.. together.Select(edit => rng.Pick(edit.Rephrases))]),
            text.Of([.. together.SelectMany(edit => edits.Count == 1 ? edit.Locality
                : [.. rng.Shuffle(edit.Locality).Take(LocalityOfEach)])]));
    }
}
