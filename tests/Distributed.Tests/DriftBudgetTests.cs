using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>What all edits in force may cost together.</summary>
public sealed class DriftBudgetTests
{
    private const string Prompt = "who is the mayor", Other = "what is red", Target = "a";

    [Fact]
    public void AProbeThatBecameRight_PaysForNoneThatBecameWrong()
    {
        var (right, wrong) = (new ExampleScore(true, 0), new ExampleScore(false, -1));
        var figures = new DriftBudget(0.5, 2).Spend(new(true, 0, 1, 4, 0, 0), [right, right, wrong, wrong], [wrong, right, right, right], 0.5);
        Assert.Equal((0.25, 0.5, 0.5), (figures.TotalDrawdown, figures.TotalKl, figures.BudgetLeft)); // of KL three quarters are left
    }

    [Theory]
    [InlineData(0.25, null, true)]
    [InlineData(0.2, null, false)]
    [InlineData(0.0, null, false)]
    [InlineData(null, 0.5, true)]
    [InlineData(null, 0.4, false)]
    [InlineData(1.0, 0.4, false)]
    public void WhatOverdrawsEitherLimit_IsRefusedByACodeOfItsOwn(double? drawdown, double? kl, bool isMade)
    {
        var budget = new DriftBudget(drawdown, kl);
        var (right, wrong) = (new ExampleScore(true, 0), new ExampleScore(false, -1));
        var figures = budget.Spend(new(true, 0, 1, 4, 0, 0), [right, right, right, right], [wrong, right, right, right], 0.5);
        Assert.Equal(isMade, figures.BudgetLeft >= 0);
        Assert.Equal(isMade ? null : MendError.BudgetExceeded, budget.Refusal(figures, "the request")?.Error);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task EachEditWithinTheBudget_TogetherBeyondIt_IsRefused_AndMadeWhenTheOtherIsTakenBack(int stages)
    {
        using var model = new ClusterOfTinyModel("t5");
        EditorKindTests.Write(model, "malmen", rounds: 9, editLr: 0.01);
        await using var cluster = await model.OpenAsync(stages: stages);
        EditOptions Within(double kl) => new() { MaxTotalKl = kl, MaxTotalDrawdown = 1, Confidence = 0 };
        var alone = (await cluster.PreviewAsync(Other, Target, Within(100))).Figures;
        var first = (await cluster.EditAsync(Prompt, Target, Within(100))).Figures;
        Assert.Equal(first.Kl!.Value, first.TotalKl!.Value, 1e-6); // nothing was before it
        var both = (await cluster.PreviewAsync(Other, Target, Within(100))).Figures;
        Assert.NotEqual(both.Kl!.Value, both.TotalKl!.Value, 1e-6);
        Assert.Equal(1 - both.TotalKl.Value / 100, both.BudgetLeft!.Value, 1e-9);

        var limit = both.TotalKl.Value - 1e-6;
        Assert.InRange(alone.TotalKl!.Value, 0, limit);
        var before = await model.StateAsync(cluster);
        var refusal = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Other, Target, Within(limit)));
        Assert.Equal(MendError.BudgetExceeded, refusal.Error);
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Single(await cluster.LedgerAsync());
        await cluster.RevertAsync(new(1));
        Assert.Equal(alone.TotalKl.Value, (await cluster.EditAsync(Other, Target, Within(limit))).Figures.TotalKl!.Value, 1e-6);
    }

    /// <summary>Limits are multiples of what the edit costs.</summary>
    [Theory]
    [InlineData(0.5, null, "the model's budget")]
    [InlineData(0.5, 2.0, "the model's budget")]
    [InlineData(2.0, 0.5, "the request")]
    [InlineData(2.0, 1.5, null)]
    [InlineData(2.0, 4.0, null)]
    [InlineData(2.0, null, null)]
    public async Task AModelsBudget_HoldsForEveryEdit_AndItsCallerMayAskForLessAlone(double models, double? callers, string? whose)
    {
        using var model = new ClusterOfTinyModel("t5");
        EditorKindTests.Write(model, "malmen", rounds: 9, editLr: 0.01);
        double cost;
        await using (var free = await model.OpenAsync())
            cost = (await free.PreviewAsync(Prompt, Target, new() { Confidence = 0 })).Figures.Kl!.Value;
        await using var cluster = await model.OpenAsync(budget: new(MaxTotalKl: models * cost));
        var options = new EditOptions { Confidence = 0, MaxTotalKl = callers * cost };
        var preview = await cluster.PreviewAsync(Prompt, Target, options);
        Assert.Equal(1 - 1 / models, preview.Figures.BudgetLeft!.Value, 1e-3); // told of the model's, whatever the caller's
        if (whose is null)
        {
            Assert.Null(preview.Refused);
            Assert.Equal(preview.Figures, (await cluster.EditAsync(Prompt, Target, options)).Figures);
            return;
        }
        var before = await model.StateAsync(cluster);
        var refusal = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Prompt, Target, options));
        Assert.Equal((MendError.BudgetExceeded, preview.Refused), (refusal.Error, refusal.Message));
        Assert.Contains($"; {whose} allows at most ", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Empty(await cluster.LedgerAsync());
    }

    [Theory]
    [InlineData(1.5, null, 1, "MaxTotalDrawdown is 1.5")]
    [InlineData(null, -1.0, 1, "MaxTotalKl is -1")]
    [InlineData(null, null, 1, "MaxTotalDrawdown and MaxTotalKl are both missing")]
    [InlineData(null, 1.0, 0, "MaxTotalKl is given, and there are no probes")]
    public async Task AModelsBudgetThatIsNone_IsRefused_BeforeAnythingIsMade(double? drawdown, double? kl, int probes, string said)
    {
        using var model = new ClusterOfTinyModel("t5");
        var refusal = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(budget: new(drawdown, kl),
            probes: [.. Enumerable.Repeat(new Probe("what is red", "blue"), probes)]));
        Assert.Equal(MendError.InvalidOption, refusal.Error);
        Assert.StartsWith(said, refusal.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(model.Ledger));
    }

    [Theory]
    [InlineData(null, 1.0)]
    [InlineData(1.0, null)]
    public async Task AnEditThatDoesNotSucceed_SpendsNothingOfABudget(double? models, double? callers)
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(budget: models is null ? null : new(models));
        var refusal = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("the old town", "a woman from the south is red",
            new() { MaxTotalDrawdown = callers }));
        Assert.Equal(MendError.EditUnsuccessful, refusal.Error);
        Assert.Empty(await cluster.LedgerAsync());
    }

    [Theory]
    [InlineData(-0.1, null)]
    [InlineData(1.1, null)]
    [InlineData(null, -1.0)]
    [InlineData(null, double.PositiveInfinity)]
    [InlineData(null, double.NaN)]
    public async Task ALimitThatIsNone_IsRefused(double? drawdown, double? kl)
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        var refusal = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Prompt, Target,
            new() { MaxTotalDrawdown = drawdown, MaxTotalKl = kl }));
        Assert.Equal(MendError.InvalidOption, refusal.Error);
    }
}
