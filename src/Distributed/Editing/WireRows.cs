using MendCluster.Contracts;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Tensors of single examples, [1, T, ...], as the rows of one of a batch, [B, T, ...], and back. Zeros fill what is shorter.
/// </summary>
internal static class WireRows
{
    /// <param name="rows">Of one type; the same shape but for T.</param>
    /// <param name="atEnd">Whether rows end together, with padding before the shorter ones; otherwise they begin together.</param>
    public static WireTensor Stack(IReadOnlyList<WireTensor> rows, bool atEnd)
    {
        if (rows.Count == 1)
            return rows[0];
        var longest = rows.MaxBy(row => row.Shape[1])!;
        var size = longest.Bytes.Length;
        var bytes = new byte[(long)rows.Count * size];
        for (var i = 0; i < rows.Count; i++)
            rows[i].Bytes.Span.CopyTo(bytes.AsSpan(i * size + (atEnd ? size - rows[i].Bytes.Length : 0)));
        return new(longest.Type, [rows.Count, .. longest.Shape[1..]], bytes);
    }

    /// <inheritdoc cref="Stack"/>
    /// <returns>Null where there are none.</returns>
    public static WireTensor? StackOrNull(IEnumerable<WireTensor?> rows, bool atEnd) =>
        rows.OfType<WireTensor>().ToList() is { Count: > 0 } there ? Stack(there, atEnd) : null;

    /// <summary>A row as it was before it was stacked. Nothing is copied.</summary>
    /// <param name="tokens">Its T.</param>
    public static WireTensor Row(WireTensor stacked, int row, long tokens, bool atEnd)
    {
        var size = stacked.Bytes.Length / (int)stacked.Shape[0];
        var own = (int)(size / stacked.Shape[1] * tokens);
        return new(stacked.Type, [1, tokens, .. stacked.Shape[2..]], stacked.Bytes.Slice(row * size + (atEnd ? size - own : 0), own));
    }
}
