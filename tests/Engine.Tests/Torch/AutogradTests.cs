using MendCluster.Engine.Torch;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

public class AutogradTests
{
    [Fact]
    public void Gradient_OfAQuadraticFormIsThePaperOne()
    {
        using var scope = NewDisposeScope();
        var W = F([2, 3], 1, 2, 3, 4, 5, 6).requires_grad_();
        var u = F([1, 3], 1, -1, 2).requires_grad_();
        var z = nn.functional.linear(u, W); // [5, 11]
        var gradients = Derivatives.Of([(z * z).sum()], [W, u, z]);
        gradients[2].AssertIs([1, 2], 10, 22);                          // delta = 2 z
        gradients[0].AssertIs([2, 3], 10, -10, 20, 22, -22, 44);        // delta^T u
        gradients[1].AssertIs([1, 3], 98, 130, 162);                    // delta W
    }

    [Fact]
    public void Gradients_ComeInTheOrderOfTheInputs()
    {
        using var scope = NewDisposeScope();
        var (x, y) = (F([1], 2).requires_grad_(), F([1], 3).requires_grad_());
        var found = Derivatives.Of([(x * y * y).sum()], [y, x]);
        found[0].AssertIs([1], 12);
        found[1].AssertIs([1], 9);
    }

    [Fact]
    public void SeveralOutputs_AddUp()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2).requires_grad_();
        Derivatives.Of([x.Times(3).sum(), (x * x).sum()], [x])[0].AssertIs([2], 5, 7);
    }

    [Fact]
    public void OutputGradients_WeighTheOutputs()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2).requires_grad_();
        Derivatives.Of([x * x], [x], [F([2], 10, -1)])[0].AssertIs([2], 20, -4);
    }

    [Fact]
    public void CreatedGraph_GivesSecondDerivatives()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var first = Derivatives.WithGraph([(x * x * x).sum()], [x])[0];
        first.AssertIs([1], 27);
        Derivatives.Of([first.sum()], [x])[0].AssertIs([1], 18);
    }

    [Fact]
    public void RetainedGraph_CanBeUsedTwice()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var y = (x * x).sum();
        Derivatives.Of([y], [x], retainGraph: true)[0].AssertIs([1], 6);
        Derivatives.Of([y], [x])[0].AssertIs([1], 6);
    }

    [Fact]
    public void AnInputThatNothingDependsOn_IsRefusedOrNull()
    {
        using var scope = NewDisposeScope();
        var (x, other) = (F([1], 3).requires_grad_(), F([2], 1, 1).requires_grad_());
        Assert.Contains("input 1, Float32 [2]",
            Assert.Throws<InvalidOperationException>(() => Derivatives.Of([(x * x).sum()], [x, other])).Message, StringComparison.Ordinal);
        var found = Derivatives.OrNull([(x * x).sum()], [x, other]);
        found[0]!.AssertIs([1], 6);
        Assert.Null(found[1]);
    }

    [Fact]
    public void NothingIsLeftOnTheInputs_AlsoAfterAnError()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var y = (x * x).sum();
        Derivatives.Of([y], [x])[0].AssertIs([1], 6);
        Assert.ThrowsAny<Exception>(() => Derivatives.Of([y], [x])); // its graph is gone
        Assert.Null(x.grad);
        Derivatives.Of([(x * x).sum()], [x])[0].AssertIs([1], 6); // and not 12
    }

    [Fact]
    public void NoGrad_RecordsNothingAndEndsWithItsScope()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        using (no_grad())
        {
            Assert.False(is_grad_enabled());
            Assert.False((x * x).requires_grad);
            using (enable_grad())
                Assert.True((x * x).requires_grad);
            Assert.False(is_grad_enabled());
        }
        Assert.True(is_grad_enabled());
        Assert.True((x * x).requires_grad);
        using (set_grad_enabled(false))
            Assert.False((x * x).requires_grad);
    }

    [Fact]
    public void GradMode_IsOfItsThread()
    {
        using var _ = no_grad();
        var elsewhere = false;
        var thread = new Thread(() => elsewhere = is_grad_enabled());
        thread.Start();
        thread.Join();
        Assert.True(elsewhere);
        Assert.False(is_grad_enabled());
    }

    [Fact]
    public void Detached_HasTheValuesAndNoGraph()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var y = (x * x).detach();
        Assert.False(y.requires_grad);
        y.AssertIs([1], 9);
    }

    [Fact]
    public void Leaf_StopsTheGradientAtItself()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var z = (x * x).detach().requires_grad_(); // a recorded output with nothing below it
        Derivatives.Of([z.Times(5).sum()], [z])[0].AssertIs([1], 5);
    }
}
