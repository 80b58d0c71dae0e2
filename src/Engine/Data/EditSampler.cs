namespace MendCluster.Engine.Data;

/// <summary>The rows of one training step.</summary>
/// <param name="Edits">Indices of the edits, all different.</param>
/// <param name="Locality">Indices of the locality rows, drawn with replacement.</param>
public sealed record EditDraw(IReadOnlyList<int> Edits, IReadOnlyList<int> Locality);

/// <summary>
/// Says which rows each training step sees, as the reference sampler does: edits in the order of a random permutation,
/// a new permutation when it is used up, locality rows at random.
/// A draw depends on the seed and the step's number alone. So there is no state to save: a run that resumes at step n
/// asks for step n, and every replica can work out the others' rows.
/// With several edits a step, the end of a permutation that is too short for a whole step is left out, which keeps the
/// edits of a step distinct.
/// </summary>
public sealed class EditSampler
{
    private readonly ulong _seed;
    private readonly int _edits;
    private readonly int _locality;
    private readonly int _editsPerStep;
    private readonly int _localityPerStep;
    private readonly bool _sameRows;
    private long _pass = -1;
    private int[] _permutation = [];

    /// <param name="seed">The run's seed.</param>
    /// <param name="edits">How many edits the data set has.</param>
    /// <param name="locality">How many locality rows there are.</param>
    /// <param name="sameRows">
    /// True when locality row i is about the fact of edit i (the zsRE training set): a step's locality then avoids the rows
    /// that it edits. False when locality comes from elsewhere (NQ).
    /// </param>
    /// <param name="editsPerStep">At least 1.</param>
    /// <param name="localityPerStep">0 or more.</param>
    /// <exception cref="ArgumentException">There are too few rows for one step.</exception>
    public EditSampler(ulong seed, int edits, int locality, bool sameRows, int editsPerStep = 1, int localityPerStep = 1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(editsPerStep, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(localityPerStep);
        if (edits < editsPerStep)
            throw new ArgumentException($"A step takes {editsPerStep} different edits, the data has {edits}: lower editsPerStep.");
        if (localityPerStep > 0 && locality <= (sameRows ? editsPerStep : 0))
            throw new ArgumentException(
                $"A step with {editsPerStep} edits leaves no locality row to draw: the data has {locality}. Add rows or lower editsPerStep.");

        _seed = seed;
        _edits = edits;
        _locality = locality;
        _sameRows = sameRows;
        _editsPerStep = editsPerStep;
        _localityPerStep = localityPerStep;
    }

    /// <summary>The rows of a step.</summary>
    /// <param name="step">From 0.</param>
    public EditDraw At(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        var (pass, place) = Math.DivRem(step, _edits / _editsPerStep);
        if (pass != _pass)
        {
            _permutation = Prng.At(_seed, 2 * (ulong)pass).Shuffle(Enumerable.Range(0, _edits));
            _pass = pass;
        }
        var edits = _permutation.AsSpan((int)place * _editsPerStep, _editsPerStep).ToArray();

        var rng = Prng.At(_seed, 2 * (ulong)step + 1);
        var locality = new int[_localityPerStep];
        for (var i = 0; i < locality.Length; i++)
        {
            do
                locality[i] = rng.Next(_locality);
            while (_sameRows && edits.Contains(locality[i]));
        }
        return new EditDraw(edits, locality);
    }
}
