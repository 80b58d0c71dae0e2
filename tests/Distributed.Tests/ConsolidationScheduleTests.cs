using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;
using Microsoft.Extensions.Logging.Abstractions;

namespace MendCluster.Distributed.Tests;

/// <summary>When edits are consolidated by themselves.</summary>
public class ConsolidationScheduleTests
{
    [Fact]
    public async Task AfterSoManyEditsOfAScope() =>
        Assert.Equal([4, 8], await AttemptsAsync(new(Every: 3),
            [Edit(), Edit(scope: "a"), Edit(), Edit(), Edit(), Edit(scope: "a"), Edit(), Edit()]));

    [Fact]
    public async Task OnceTheirRowsAreSoMany_AndAgainNotBeforeTenMore() =>
        Assert.Equal([2, 12], await AttemptsAsync(new(AtRank: 10), [Edit(rank: 4), Edit(rank: 6), .. Enumerable.Range(0, 10).Select(_ => Edit(rank: 9))]));

    [Fact]
    public async Task OnceTheyCostMore_AndAgainNotBeforeTenMore() =>
        Assert.Equal([2, 12], await AttemptsAsync(new(AtDrawdown: 0.1),
            [Edit(drawdown: 0.1), Edit(drawdown: 0.2), .. Enumerable.Range(0, 9).Select(_ => Edit(drawdown: 0.3)), Edit(drawdown: 0.15)]));

    [Fact]
    public async Task WhatCostsNoMore_StaysAsItIs() =>
        Assert.Empty(await AttemptsAsync(new(AtDrawdown: 0.1), [Edit(drawdown: 0.1), Edit(), Edit(drawdown: 0.05)]));

    [Fact]
    public async Task DrawdownIsMeasuredForIt_AndAnEditThatFailsIsMadeAllTheSame()
    {
        using var model = new ClusterOfTinyModel(family: "gpt2");
        model.SetAlpha(0);
        await using var cluster = await model.OpenAsync(consolidate: new(AtDrawdown: 0.5));
        var figures = (await cluster.EditAsync("who is old", "a woman")).Figures;
        Assert.False(figures.Success);
        Assert.Equal((0.0, null), (figures.TotalDrawdown!.Value, figures.BudgetLeft));
        Assert.Contains("no probes", (await Assert.ThrowsAsync<MendException>(() =>
            model.OpenAsync(ledger: model.Ledger + "2", probes: [], consolidate: new(AtDrawdown: 0.5)))).Message, StringComparison.Ordinal);
    }

    private static LedgerEntry Edit(long rank = 1, double? drawdown = null, string? scope = null) => new(default, default, LedgerKind.Edit, default,
        "a prompt", "a target", Scope: scope, Figures: new(true, 0, 1, 10, 0, 0, Rank: rank) { TotalDrawdown = drawdown });

    /// <returns>The versions after which the edits for everybody were to be consolidated.</returns>
    private static async Task<List<long>> AttemptsAsync(ConsolidationTriggers triggers, IEnumerable<LedgerEntry> edits)
    {
        var (attempts, ledger) = (new List<long>(), new List<LedgerEntry>());
        var begun = new SemaphoreSlim(0);
        using var schedule = new ConsolidationSchedule(triggers, (options, _) =>
        {
            if (options.Scope is null)
                attempts.Add(ledger[^1].Version.Value);
            begun.Release();
            return Task.CompletedTask;
        }, NullLogger.Instance);
        foreach (var edit in edits)
        {
            ledger.Add(edit with { Version = new(ledger.Count + 1) });
            schedule.Committed(ledger, [new(ledger[^1], [])]);
            while (await begun.WaitAsync(TimeSpan.FromMilliseconds(50)))
            {
                // the next edit comes when it is over
            }
        }
        return attempts;
    }
}
