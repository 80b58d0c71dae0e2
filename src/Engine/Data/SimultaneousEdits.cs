using MendCluster.Engine.Training;

namespace MendCluster.Engine.Data;

/// <summary>Many edits as one batch, of training or of evaluation.</summary>
public static class SimultaneousEdits
{
    /// <summary>Locality questions of each edit in a training step of many: they are most of its cost, and all edits share them.</summary>
    private const int LocalityOfEach = 3;

    /// <summary>The edits without those of a fact that an earlier one changes: no answer could satisfy both.</summary>
    public static IEnumerable<EditRows> OfDifferentFacts(IEnumerable<EditRows> edits)
    {
        var edited = new HashSet<string>();
        foreach (var edit in edits.Where(edit => !edited.Overlaps(edit.Wordings)))
        {
            edited.UnionWith(edit.Wordings);
            yield return edit;
        }
    }

    /// <summary>The edits as one batch: without locality questions that ask, in whatever wording, what one of them changes.</summary>
    public static IReadOnlyList<EditRows> Together(IReadOnlyList<EditRows> edits)
    {
        var edited = edits.SelectMany(edit => edit.Wordings).ToHashSet();
        return [.. edits.Select(edit => edit with { Locality = [.. edit.Locality.Where(row => !edited.Contains(row.Prompt))] })];
    }

    /// <summary>
    /// The edits as a training step's batch: one rephrase of each as x'_e; all locality questions as x_loc, of many edits some of each.
    /// </summary>
    /// <param name="rng">Picks the rephrases, and the locality questions of many edits.</param>
    public static EditBatch Batch(TextBatch text, IReadOnlyList<EditRows> edits, Prng rng)
    {
        var together = Together(edits);
        if (together.All(edit => edit.Locality.Count == 0))
            throw new InvalidDataException($"{edits.Count} edit(s) at once leave no question about anything else: take fewer, or edits with more such questions");
        return new(
            text.Of([.. together.Select(edit => edit.Edit)]),
            text.Of([.. together.Select(edit => rng.Pick(edit.Rephrases))]),
            text.Of([.. together.SelectMany(edit => edits.Count == 1 ? edit.Locality
                : [.. rng.Shuffle(edit.Locality).Take(LocalityOfEach)])]));
    }
}
