using MendCluster.Engine.Torch;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

public class LiveTensorTests
{
    public LiveTensorTests()
    {
        GC.Collect(); // tensors that other tests left to the collector
        GC.WaitForPendingFinalizers();
    }

    [Fact]
    public void Count_RisesWithEachTensorAndFallsWithItsDisposal()
    {
        var before = Tensor.TotalCount;
        var x = ones([2]);
        var view = x.narrow(0, 0, 1);
        Assert.Equal(before + 2, Tensor.TotalCount);
        x.Dispose();
        x.Dispose();
        Assert.Equal(before + 1, Tensor.TotalCount);
        view.Dispose();
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Scope_LeavesNoTensorBehind()
    {
        var before = Tensor.TotalCount;
        for (var i = 0; i < 10; i++)
        {
            using var scope = NewDisposeScope();
            var W = F([2, 3], 1, 2, 3, 4, 5, 6).requires_grad_();
            var z = nn.functional.linear(ones([4, 3]), W).tanh().split(2, 0)[1].Plus(1);
            var (values, _) = z.topk(1, 1);
            Derivatives.Of([values.sum()], [W])[0].Mul_(0.5);
            Assert.True(Tensor.TotalCount > before);
        }
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void RefusedCall_LeavesNoTensorBehind()
    {
        var before = Tensor.TotalCount;
        using (NewDisposeScope())
        {
            var x = ones([2, 3]);
            Assert.ThrowsAny<Exception>(() => x.mm(x));
            Assert.Equal(before + 1, Tensor.TotalCount);
        }
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void ForgottenTensor_IsCollected()
    {
        var before = Tensor.TotalCount;
        Forget();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.Equal(before, Tensor.TotalCount);

        static void Forget() => _ = ones([2]);
    }
}
