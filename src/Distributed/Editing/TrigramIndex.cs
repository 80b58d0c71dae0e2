namespace MendCluster.Distributed.Editing;

/// <summary>
/// Finds texts that are like another in their letters, in any language: the cosine of their counts of three letters in a row, each weighed
/// by how few texts have it (tf-idf). No model is asked.
/// </summary>
internal sealed class TrigramIndex
{
    private readonly int _count;
    private readonly Dictionary<string, double> _weights;
    private readonly ILookup<string, (int Text, double Weight)> _having;

    public TrigramIndex(IReadOnlyList<string> texts)
    {
        _count = texts.Count;
        _weights = texts.SelectMany(text => Trigrams(text).Keys).CountBy(trigram => trigram)
            .ToDictionary(found => found.Key, found => Math.Log(1 + (double)_count / found.Value));
        _having = texts.Index().SelectMany(text => Vector(text.Item).Select(entry => (entry.Key, Place: (text.Index, entry.Value))))
            .ToLookup(entry => entry.Key, entry => entry.Place);
    }

    /// <summary>The texts that share anything with this one, the most alike first.</summary>
    /// <returns>Their places.</returns>
    public IReadOnlyList<int> MostLike(string text)
    {
        var likeness = new double[_count];
        foreach (var (trigram, weight) in Vector(text))
            foreach (var (other, its) in _having[trigram])
                likeness[other] += weight * its;
        return [.. Enumerable.Range(0, _count).Where(other => likeness[other] > 0).OrderByDescending(other => likeness[other])];
    }

    /// <summary>Of length 1, or empty.</summary>
    private Dictionary<string, double> Vector(string text)
    {
        var weighed = Trigrams(text).ToDictionary(found => found.Key, found => found.Value * _weights.GetValueOrDefault(found.Key));
        var length = Math.Sqrt(weighed.Values.Sum(weight => weight * weight));
        return length == 0 ? [] : weighed.ToDictionary(entry => entry.Key, entry => entry.Value / length);
    }

    private static Dictionary<string, int> Trigrams(string text)
    {
        var padded = $" {text.ToLowerInvariant()} ";
        return Enumerable.Range(0, padded.Length - 2).CountBy(i => padded.Substring(i, 3)).ToDictionary();
    }
}
