using System.Reflection;
using TorchSharp;
using static MendCluster.Torch.Tests.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Torch.Tests.NativeDoor;

public class DoorTests
{
    public DoorTests()
    {
        GC.Collect(); // tensors that other tests left to the collector
        GC.WaitForPendingFinalizers();
    }

    /// <summary>A compiled row is also the proof that the package has the overload: these rows run on it too.</summary>
    [Fact]
    public void EveryPublicOperator_HasARowOfKnownValues()
    {
        const BindingFlags Own = BindingFlags.Public | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;
        string[] others = // properties, lifetime and modes, which other tests cover
        [
            "Dispose", "DetachFromDisposeScope", "MoveToOuterDisposeScope", "ToString", "bytes", "data", "item", "dim", "numel", "size",
            "is_contiguous", "NewDisposeScope", "no_grad", "enable_grad", "set_grad_enabled", "is_grad_enabled", "set_num_threads", "get_num_threads",
        ];
        var operators = new[] { typeof(Tensor), typeof(torch), typeof(nn.functional) }
            .SelectMany(type => type.GetMethods(Own))
            .Where(method => method.Name.StartsWith("op_", StringComparison.Ordinal) || !method.IsSpecialName)
            .Select(method => method.Name).Distinct().Except(others);
        Assert.Empty(operators.Except(OperatorTests.Rows.Select(row => row.Name)));
    }

    [Fact]
    public void OmittedArguments_TakeTheSchemasDefaults()
    {
        using var scope = NewDisposeScope();
        Dispatcher.Call("aten::layer_norm", F([1, 2], 1, 3), (long[])[2]).AssertIs([1, 2], -0.999995, 0.999995); // eps 1e-5
        Dispatcher.Call("aten::sum.dim_IntList", F([2], 1, 3), (long[])[0], Argument.Default, ScalarType.Int64).AssertIs([], 4);
    }

    [Fact]
    public void ListsLongerThanTheStackBuffer_ArePassedWhole()
    {
        using var scope = NewDisposeScope();
        var rows = Enumerable.Range(0, 1000).Select(i => F([1], i)).ToList();
        Assert.Equal(499500.0, cat(rows).sum().item<float>());
    }

    [Fact]
    public void ManyResults_AreAllReturned()
    {
        using var scope = NewDisposeScope();
        var parts = arange(200).split(1);
        Assert.Equal(200, parts.Length);
        Assert.Equal(199L, parts[^1].item<long>());
    }

    [Fact]
    public void MoreResultsThanFit_AreRefusedAndGivenBack()
    {
        var before = Tensor.TotalCount;
        using (NewDisposeScope())
        {
            var x = arange(5000);
            Assert.Throws<TorchException>(() => x.split(1));
            Assert.Equal(before + 1, Tensor.TotalCount);
        }
    }

    [Fact]
    public void Memory_RisesWithATensorAndFallsWithItsDisposal()
    {
        using (ones(1))
        {
        }
        const long Bytes = 4 * 1024 * 1024;
        var before = TorchRuntime.Memory()!;
        TorchRuntime.ResetMemoryPeak();
        using (zeros(Bytes / 4))
            Assert.True(TorchRuntime.Memory()!.Live >= before.Live + Bytes);
        var after = TorchRuntime.Memory()!;
        Assert.Equal(before.Live, after.Live);
        Assert.True(after.Peak >= before.Live + Bytes);
        Assert.InRange(after.Largest, Bytes, Bytes + 4096);
        TorchRuntime.ResetMemoryPeak();
        Assert.True(TorchRuntime.Memory()!.Peak < before.Live + Bytes);
    }

    [Fact]
    public void EveryOperator_GivesItsMemoryBack()
    {
        RunAll(); // what libtorch makes once and keeps
        var before = TorchRuntime.Memory()!.Live;
        RunAll();
        Assert.Equal(before, TorchRuntime.Memory()!.Live);

        static void RunAll()
        {
            foreach (var row in OperatorTests.Rows)
                using (NewDisposeScope())
                    row.Call();
        }
    }

    [Fact]
    public void RefusedCalls_LeakNoNativeMemory()
    {
        using var scope = NewDisposeScope();
        var x = ones(512, 512);
        Assert.Throws<TorchException>(() => x.mm(ones(3, 3)));
        var before = TorchRuntime.Memory()!.Live;
        for (var i = 0; i < 100; i++)
        {
            using var inner = NewDisposeScope();
            Assert.Throws<TorchException>(() => x.mm(x.narrow(0, 0, 3).contiguous()));
        }
        Assert.Equal(before, TorchRuntime.Memory()!.Live);
    }
}
