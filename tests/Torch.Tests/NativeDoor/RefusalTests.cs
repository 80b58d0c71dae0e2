using TorchSharp;
using static MendCluster.Torch.Tests.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Torch.Tests.NativeDoor;

/// <summary>Our door's own promise: the message names the operator and what it was given. And calls on which the package aborts.</summary>
public class RefusalTests
{
    private static Tensor x => F([2, 3], 1, 2, 3, 4, 5, 6);

    [Theory]
    [MemberData(nameof(BadCallTests.All), MemberType = typeof(BadCallTests))]
    public void Message_NamesTheOperatorAndItsArguments(string name, int row)
    {
        using var scope = NewDisposeScope();
        var refused = Assert.Throws<TorchException>(BadCallTests.Rows[row].Call);
        var call = refused.Message.Split('\n')[0];
        Assert.Contains(name, call, StringComparison.Ordinal);
        Assert.Contains(BadCallTests.Rows[row].Shown, call, StringComparison.Ordinal);
    }

    [Fact]
    public void MatrixProduct_OfWrongShapesIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => x.matmul(x), "aten::matmul", "[2x3]", "cannot be multiplied");
    }

    [Fact]
    public void Gradient_OfWhatHasNoGraphIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => autograd.grad([x.sum()], [x]), "autograd.grad", "[2x3]", "does not require grad");
    }

    [Fact]
    public void Gradient_OfAMatrixWithoutWeightsIsRefused()
    {
        using var scope = NewDisposeScope();
        var leaf = x.requires_grad_();
        AssertMessage(() => autograd.grad([leaf * 2], [leaf]), "autograd.grad", "[2x3]", "scalar outputs");
    }

    [Fact]
    public void Gradient_ByAnUnusedInputIsRefusedUnlessAllowed()
    {
        using var scope = NewDisposeScope();
        var (used, unused) = (x.requires_grad_(), x.requires_grad_());
        AssertMessage(() => autograd.grad([used.sum()], [used, unused]), "autograd.grad", "[2x3]", "allow_unused");
        var found = autograd.grad([used.sum()], [used, unused], allow_unused: true);
        found[0].AssertIs([2, 3], 1, 1, 1, 1, 1, 1);
        Assert.Null(found[1]);
    }

    [Fact]
    public void Gradient_ThroughAUsedUpGraphIsRefused()
    {
        using var scope = NewDisposeScope();
        var leaf = x.requires_grad_();
        var y = (leaf * leaf).sum();
        autograd.grad([y], [leaf]);
        AssertMessage(() => autograd.grad([y], [leaf]), "autograd.grad", "second time");
    }

    [Fact]
    public void Gradient_WithWeightsOfAnotherShapeIsRefused()
    {
        using var scope = NewDisposeScope();
        var leaf = x.requires_grad_();
        AssertMessage(() => autograd.grad([leaf * 2], [leaf], [ones(3)]), "autograd.grad", "[2x3]", "got [3]");
        Assert.Throws<ArgumentException>(() => autograd.grad([leaf * 2], [leaf], []));
    }

    [Fact]
    public void Gradient_ThroughAnOverwrittenValueIsRefused()
    {
        using var scope = NewDisposeScope();
        var leaf = x.requires_grad_();
        var y = leaf.exp();
        var loss = y.sum();
        y.detach().mul_(2);
        AssertMessage(() => autograd.grad([loss], [leaf]), "autograd.grad", "modified by an inplace operation");
    }

    [Fact]
    public void UnknownOperator_IsRefused() => AssertMessage(() => Dispatcher.Call("aten::no_such_thing", 1L), "aten::no_such_thing");

    [Fact]
    public void UnknownOverload_IsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => Dispatcher.Call("aten::add.NoSuchOverload", x, x), "aten::add.NoSuchOverload");
    }

    [Fact]
    public void MoreArgumentsThanTheSchemaIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => Dispatcher.Call("aten::mm", x, x, x), "aten::mm", "[2x3]");
    }

    [Fact]
    public void FewerArgumentsThanTheSchemaNeedsIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => Dispatcher.Call("aten::mm", x), "aten::mm", "[2x3]");
    }

    [Fact]
    public void ArgumentOfAnotherKindIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => Dispatcher.Call("aten::mm", x, 3L), "aten::mm", "[2x3]", "3");
        AssertMessage(() => Dispatcher.Call("aten::select.int", x, x, 0L), "aten::select.int", "[2x3]");
        AssertMessage(() => Dispatcher.Call("aten::reshape", x, 6L), "aten::reshape", "[2x3]");
        AssertMessage(() => Dispatcher.Call("aten::cat", x, 0L), "aten::cat", "[2x3]");
        AssertMessage(() => Dispatcher.Call("aten::to.dtype", x, x), "aten::to.dtype", "[2x3]");
    }

    [Fact]
    public void AbsentTensorIsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => x.mm(null!), "aten::mm", "[2x3]");
    }

    [Fact]
    public void DeviceThatIsNotThere_IsRefused()
    {
        using var scope = NewDisposeScope();
        AssertMessage(() => x.to(new Device(DeviceType.CUDA, 99)), "aten::to", "[2x3]");
    }

    [Fact]
    public void DisposedTensor_IsRefusedByTheOperatorsName()
    {
        using var scope = NewDisposeScope();
        var gone = ones(1);
        gone.Dispose();
        var refused = Assert.Throws<ObjectDisposedException>(() => x.mm(gone));
        Assert.Contains("aten::mm", refused.Message, StringComparison.Ordinal);
    }

    private static void AssertMessage(Action call, params string[] parts)
    {
        var refused = Assert.Throws<TorchException>(call);
        foreach (var part in parts)
            Assert.True(refused.Message.Contains(part, StringComparison.Ordinal), $"\"{part}\" is not in: {refused.Message}");
    }
}
