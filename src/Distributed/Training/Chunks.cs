namespace MendCluster.Distributed.Training;

/// <summary>
/// Cuts the elements of a sum for a ring of peers: into columns of one chunk for every peer, so that each peer is the one that finishes an
/// equal share, and no chunk is larger than a message may be. Pure arithmetic.
/// </summary>
public sealed class Chunks
{
    private readonly long _length;
    private readonly int _peers;

    /// <param name="length">Elements.</param>
    /// <param name="most">Elements of a chunk.</param>
    public Chunks(long length, int peers, int most)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfLessThan(peers, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        (_length, _peers) = (length, peers);
        Columns = (length + (long)peers * most - 1) / ((long)peers * most);
    }

    public long Columns { get; }

    /// <summary>Calls that each peer makes for a column: one less than the peers to add, as many to copy.</summary>
    public int Steps => 2 * (_peers - 1);

    /// <summary>A chunk's elements [start, start + count). The sizes of any two differ by at most one.</summary>
    public (long Start, int Count) Of(long column, int chunk)
    {
        var cell = column * _peers + chunk;
        var (size, larger) = Math.DivRem(_length, Columns * _peers);
        return (cell * size + Math.Min(cell, larger), (int)(size + (cell < larger ? 1 : 0)));
    }

    /// <summary>Whether what arrives in this step is added; later it takes the place of what was there.</summary>
    public bool Adds(int step) => step < _peers - 1;

    /// <summary>The chunk that a peer sends to the next: at first its own, then the one that it received the step before.</summary>
    public int Sent(int rank, int step) => Modulo(rank - step);

    /// <summary>The chunk that a peer receives from the one before.</summary>
    public int Received(int rank, int step) => Modulo(rank - 1 - step);

    /// <summary>The chunk whose sum this peer is the first to have.</summary>
    public int Finished(int rank) => Modulo(rank + 1);

    private int Modulo(int index) => (index % _peers + _peers) % _peers;
}
