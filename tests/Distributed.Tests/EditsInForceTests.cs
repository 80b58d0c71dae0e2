using MendCluster.Contracts;

namespace MendCluster.Distributed.Tests;

/// <summary>What is in force after edits, consolidations and what takes either back. An update is named by the version that made it.</summary>
public class EditsInForceTests
{
    [Theory]
    [InlineData("e e e", "1 2 3")]
    [InlineData("e e e c:1,2", "4 3")] // in the place of the first
    [InlineData("e e c:1,2 e", "3 4")]
    [InlineData("e e c:1,2 -3", "1 2")] // as they were made
    [InlineData("e e c:1,2 -1", "2")]
    [InlineData("e e c:1,2 e -2", "1 4")]
    [InlineData("e e c:1,2 e c:1,2,4", "5")] // the newer stands
    [InlineData("e e c:1,2 e c:1,2,4 -5", "3 4")] // and then the older
    [InlineData("e e c:1,2 e c:1,2,4 -4", "3")] // of which every edit is there
    [InlineData("e e c:1,2 e c:1,2,4 -1", "2 4")]
    [InlineData("e e c:1,2 e c:2,4", "1 5")] // an edit in common: the newer alone
    [InlineData("e e e e c:1,2 c:3,4", "5 6")]
    [InlineData("e s e c:1,3", "4 2")]
    [InlineData("e s s c:2,3", "1 4")]
    [InlineData("e e e c:2,3 *1:3", "2 5")] // 3 was computed anew, and the consolidation is of what it was
    [InlineData("e e e c:1,2 *3:", "4")]
    public void Updates_AreThoseOfTheEditsAndOfTheConsolidationsThatStand(string history, string expected) =>
        Assert.Equal(expected, string.Join(' ', Of(history).Updates));

    [Theory]
    [InlineData("e -2", "takes back edit 2, which is not in force")]
    [InlineData("e -1 -1", "takes back edit 1")]
    [InlineData("e e c:1,2 -1 -3", "takes back edit 3")] // it ended with its edit
    [InlineData("e c:1,2", "consolidates edits [1, 2], of which not all are in force")]
    [InlineData("e e -1 c:1,2", "consolidates edits [1, 2]")]
    [InlineData("e s c:1,2", "consolidates edits [1, 2]")] // of two scopes
    [InlineData("e c:", "consolidates edits []")]
    public void RecordThatDoesNotFit_IsRefused(string history, string why)
    {
        var refused = Assert.Throws<MendException>(() => Of(history));
        Assert.Equal(MendError.LedgerUnusable, refused.Error);
        Assert.Contains(why, refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("e e c:1,2 e", "1,2,4", "3 4")]
    [InlineData("e e c:1,2 e", "1,4", "1 4")]
    [InlineData("e e c:1,2 e c:1,2,4", "1,2", "3")]
    public void SomeOfThem_HaveTheConsolidationsOfWhichTheyAreAll(string history, string some, string expected) =>
        Assert.Equal(expected, string.Join(' ', EditsInForce<long>.None.Then(Of(history), Ids(some)).Updates));

    [Fact]
    public void SomeAfterAnotherHistory_HaveNoConsolidationOfWhatIsOtherwiseThere()
    {
        var history = Of("e e c:1,2");
        var begun = EditsInForce<long>.None.Then(history, Ids("1"));
        Assert.Equal([3], begun.Then(history, Ids("2")).Updates);
        var anew = new EditsInForce<long>([new(new(1), null, 77)], []);
        Assert.Equal([77, 2], anew.Then(history, Ids("2")).Updates);
    }

    /// <summary>e: edit, s: edit of a scope, c: consolidation of edits, -: revert of any of them, *: of the first with others computed anew.</summary>
    private static EditsInForce<long> Of(string history)
    {
        var inForce = EditsInForce<long>.None;
        var scopes = new Dictionary<EditId, string?>();
        foreach (var (i, step) in history.Split(' ').Index())
        {
            var version = new ModelVersion(i + 1);
            var id = new EditId(i + 1);
            var scope = scopes[id] = step is "s" ? "own" : null;
            var entry = new LedgerEntry(version, default, LedgerKind.Edit, id, Scope: scope);
            IReadOnlyList<WeightChange> changes = [];
            if (step[0] is 'c')
            {
                var of = Ids(step[2..]);
                entry = entry with
                {
                    Kind = LedgerKind.Consolidate,
                    Scope = of.Count == 0 ? null : scopes.GetValueOrDefault(of[^1]),
                    Consolidated = new(of, new(0, 0, null, null), new(1, 1, null, null), 1, 1)
                };
            }
            else if (step[0] is '-' or '*')
            {
                var parts = step[1..].Split(':');
                entry = entry with { Kind = LedgerKind.Revert, Edit = Ids(parts[0])[0] };
                changes = [.. Ids(parts.ElementAtOrDefault(1) ?? "").Select(anew => new WeightChange("w", Nothing, Nothing, 1, anew))];
            }
            inForce = inForce.Plus(new(entry, changes), (_, _) => version.Value);
        }
        return inForce;
    }

    private static readonly WireTensor Nothing = new(DType.Float32, [0, 0], Array.Empty<byte>());

    private static List<EditId> Ids(string list) =>
        [.. list.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(id => new EditId(long.Parse(id, System.Globalization.CultureInfo.InvariantCulture)))];
}
