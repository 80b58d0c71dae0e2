using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A classifier as a user meets it: a claim is asked for its label, and an edit changes the label.</summary>
public class ClassifierTests
{
    private static readonly string[] Labels = ["REFUTES", "SUPPORTS"];
    private static readonly string[] Claims =
        ["the mayor is a woman", "what is blue", "who is the old mayor", "red", "the south is the old town"];
    private static readonly Probe[] Probes = [new("what is red", "SUPPORTS"), new("the old town", "REFUTES"), new("blue", "true")];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public async Task AnEdit_ChangesTheLabelOfAClaim_AndItsRevertGivesItBack(int stages)
    {
        using var model = new ClusterOfTinyModel(TinyModels.Classifier);
        await using var cluster = await model.OpenAsync(stages, probes: Probes);
        var changed = 0;
        foreach (var claim in Claims)
        {
            var before = (await cluster.AskAsync(claim)).Text;
            Assert.Contains(before, Labels);
            var (target, other) = before == "REFUTES" ? ("true", "SUPPORTS") : ("false", "REFUTES");

            var receipt = await cluster.EditAsync(claim, target);

            var (figures, after) = (receipt.Figures, (await cluster.AskAsync(claim)).Text);
            Assert.True(figures.ProbabilityBefore < 0.5, $"{claim}: {figures}");
            Assert.Equal(figures.ProbabilityAfter > 0.5, figures.Success);
            Assert.Equal(figures.Success ? other : before, after);
            Assert.Equal((3, true), (figures.Probes, figures.Kl > 0));
            changed += figures.Success ? 1 : 0;
            await cluster.RevertAsync(receipt.Id);
            Assert.Equal(before, (await cluster.AskAsync(claim)).Text);
        }
        Assert.True(changed > 0, "no edit of the tiny editor's succeeded");
    }

    [Fact]
    public async Task ATargetThatIsNoLabel_IsRefusedWithTheLabels()
    {
        using var model = new ClusterOfTinyModel(TinyModels.Classifier);
        await using var cluster = await model.OpenAsync(probes: Probes);
        var e = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "maybe"));
        Assert.Equal(MendError.UnknownLabel, e.Error);
        Assert.Contains("REFUTES, SUPPORTS", e.Hint);
        Assert.Equal(MendError.EmptyTarget, (await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", " "))).Error);
        Assert.Equal(MendError.EmptyPrompt, (await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(" ", "true"))).Error);
        var longest = string.Join(' ', Enumerable.Repeat("red", 62)); // [CLS] and [SEP] make it 64, all that the model reads
        Assert.Contains((await cluster.AskAsync(longest)).Text, Labels);
        Assert.Equal(MendError.TooLong, (await Assert.ThrowsAsync<MendException>(() => cluster.AskAsync(longest + " red"))).Error);
        Assert.Empty(await cluster.LedgerAsync());
    }

    [Fact]
    public async Task ALabelOfAProbe_IsCheckedAtOpen()
    {
        using var model = new ClusterOfTinyModel(TinyModels.Classifier);
        var e = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(probes: [new("what is red", "blue")]));
        Assert.Equal(MendError.InvalidOption, e.Error);
    }
}
