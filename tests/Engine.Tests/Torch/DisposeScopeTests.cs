using MendCluster.Engine.Torch;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

public class DisposeScopeTests
{
    [Fact]
    public void Scope_DisposesOfWhatWasMadeInIt()
    {
        Tensor made, view;
        using (NewDisposeScope())
        {
            made = ones([2]);
            view = made.narrow(0, 0, 1);
        }
        Assert.True(made.IsInvalid);
        Assert.True(view.IsInvalid);
    }

    [Fact]
    public void Scope_LeavesWhatWasMadeBeforeIt()
    {
        using var before = ones([2]);
        using (NewDisposeScope())
            _ = before.Plus(1);
        Assert.False(before.IsInvalid);
    }

    [Fact]
    public void InnerScope_TakesOnlyItsOwn()
    {
        using var outer = NewDisposeScope();
        var kept = ones([1]);
        Tensor gone;
        using (NewDisposeScope())
            gone = ones([1]);
        Assert.True(gone.IsInvalid);
        Assert.False(kept.IsInvalid);
    }

    [Fact]
    public void MoveToOuter_OutlivesTheInnerScopeAndNotTheOuter()
    {
        Tensor moved, alsoMoved;
        using (NewDisposeScope())
        {
            using (var inner = NewDisposeScope())
            {
                moved = ones([1]).MoveToOuterDisposeScope();
                alsoMoved = inner.MoveToOuter(ones([1]));
            }
            Assert.False(moved.IsInvalid);
            Assert.False(alsoMoved.IsInvalid);
        }
        Assert.True(moved.IsInvalid);
        Assert.True(alsoMoved.IsInvalid);
    }

    [Fact]
    public void MoveToOuter_OfTheOutermostScopeLeavesTheTensorToItsOwner()
    {
        Tensor moved;
        using (NewDisposeScope())
            moved = ones([1]).MoveToOuterDisposeScope();
        Assert.False(moved.IsInvalid);
        moved.Dispose();
        Assert.True(moved.IsInvalid);
    }

    [Fact]
    public void Detached_OutlivesEveryScope()
    {
        Tensor detached, alsoDetached;
        using (NewDisposeScope())
        using (var inner = NewDisposeScope())
        {
            detached = ones([1]).DetachFromDisposeScope();
            alsoDetached = inner.Detach(ones([1]));
        }
        Assert.False(detached.IsInvalid);
        Assert.False(alsoDetached.IsInvalid);
        detached.Dispose();
        alsoDetached.Dispose();
    }

    [Fact]
    public void DisposedTensor_LeavesItsScope()
    {
        using var scope = NewDisposeScope();
        var x = ones([1]);
        Assert.Equal(1, scope.DisposablesCount);
        x.Dispose();
        Assert.Equal(0, scope.DisposablesCount);
        x.Dispose(); // twice is once
    }

    [Fact]
    public void Storage_LivesAsLongAsOneOfItsViews()
    {
        Tensor view;
        using (NewDisposeScope())
            view = F([3], 1, 2, 3).narrow(0, 1, 2).DetachFromDisposeScope();
        view.AssertIs([2], 2, 3);
        view.Dispose();
    }

    [Fact]
    public void Scope_BelongsToItsThread()
    {
        using var scope = NewDisposeScope();
        Tensor? elsewhere = null;
        var thread = new Thread(() => elsewhere = ones([1]));
        thread.Start();
        thread.Join();
        Assert.Equal(0, scope.DisposablesCount);
        elsewhere!.Dispose();
    }

    [Fact]
    public void Scope_ClosesWhenAnOperatorThrows()
    {
        Tensor? made = null;
        Assert.ThrowsAny<Exception>(() =>
        {
            using var scope = NewDisposeScope();
            made = ones([2, 3]);
            made.mm(made);
        });
        Assert.True(made!.IsInvalid);
        using var after = NewDisposeScope();
        _ = ones([1]);
        Assert.Equal(1, after.DisposablesCount);
    }
}
