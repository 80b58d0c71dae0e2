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
        var gradients = autograd.grad([(z * z).sum()], [W, u, z]);
        gradients[2].AssertIs([1, 2], 10, 22);                          // delta = 2 z
        gradients[0].AssertIs([2, 3], 10, -10, 20, 22, -22, 44);        // delta^T u
        gradients[1].AssertIs([1, 3], 98, 130, 162);                    // delta W
    }

    [Fact]
    public void Gradients_ComeInTheOrderOfTheInputs()
    {
        using var scope = NewDisposeScope();
        var (x, y) = (F([1], 2).requires_grad_(), F([1], 3).requires_grad_());
        var found = autograd.grad([(x * y * y).sum()], [y, x]);
        found[0].AssertIs([1], 12);
        found[1].AssertIs([1], 9);
    }

    [Fact]
    public void SeveralOutputs_AddUp()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2).requires_grad_();
        autograd.grad([x.Times(3).sum(), (x * x).sum()], [x])[0].AssertIs([2], 5, 7);
    }

    [Fact]
    public void OutputGradients_WeighTheOutputs()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2).requires_grad_();
        autograd.grad([x * x], [x], [F([2], 10, -1)])[0].AssertIs([2], 20, -4);
    }

    [Fact]
    public void CreatedGraph_GivesSecondDerivatives()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var first = autograd.grad([(x * x * x).sum()], [x], retain_graph: true, create_graph: true)[0];
        first.AssertIs([1], 27);
        autograd.grad([first.sum()], [x])[0].AssertIs([1], 18);
    }

    [Fact]
    public void RetainedGraph_CanBeUsedTwice()
    {
        using var scope = NewDisposeScope();
        var x = F([1], 3).requires_grad_();
        var y = (x * x).sum();
        autograd.grad([y], [x], retain_graph: true)[0].AssertIs([1], 6);
        autograd.grad([y], [x])[0].AssertIs([1], 6);
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
        autograd.grad([z.Times(5).sum()], [z])[0].AssertIs([1], 5);
    }
}
