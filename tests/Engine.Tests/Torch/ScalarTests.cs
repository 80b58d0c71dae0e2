using System.Diagnostics;
using System.Reflection;
using MendCluster.Engine.Torch;
using TorchSharp;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>A Scalar of TorchSharp's is freed by a collection while native code reads it, unless Engine/Torch holds it.</summary>
public class ScalarTests
{
    private const string Room = "MendCluster.Engine.Torch.";

    [Theory]
    [InlineData("MendCluster.Engine")]
    [InlineData("MendCluster.Distributed")]
    [InlineData("MendCluster.Engine.Tests")] // a test must not fail by a collection either
    public void NothingOutsideTheRoom_ReachesAScalar(string assembly)
    {
        using var torchSharp = new CallGraph(typeof(torch).Assembly.Location);
        var reaching = torchSharp.WhatReaches(torchSharp.Calls.Keys.Where(method =>
            method.StartsWith("TorchSharp.Scalar.", StringComparison.Ordinal)));
        Assert.Contains("TorchSharp.torch.Tensor.op_Addition(TorchSharp.torch.Tensor,TorchSharp.torch.Tensor)", reaching.Keys);

        using var ours = new CallGraph(Path.Combine(AppContext.BaseDirectory, assembly + ".dll"));
        var found = ours.Calls.Where(call => !call.Key.StartsWith(Room, StringComparison.Ordinal))
            .SelectMany(call => call.Value.Where(reaching.ContainsKey)
                .Select(callee => $"{call.Key} calls {callee}, which calls {reaching[callee]}"));
        var calls = string.Join('\n', found);
        Assert.True(calls == "", calls); // all of them, where Equal shows the first
    }

    /// <summary>On a tensor of one element, what must come out.</summary>
    private static readonly (string Name, Func<Tensor, Tensor> Call, double Value)[] Helpers = // x = 3
    [
        ("Plus", x => x.Plus(x), 6),
        ("Plus", x => x.Plus(0.5), 3.5),
        ("Minus", x => x.Minus(1), 2),
        ("Times", x => x.Times(-0.5), -1.5),
        ("Over", x => x.Over(2), 1.5),
        ("Clamp", x => x.Clamp(min: 7), 7),
        ("Eq", x => x.Eq(3), 1),
        ("Ne", x => x.Ne(3), 0),
        ("Ge", x => x.Ge(2.5), 1),
        ("Add_", x => x.clone().Add_(x), 6),
        ("Add_", x => x.clone().Add_(x, alpha: 2), 9),
        ("Add_", x => x.clone().Add_(1e-3), 3.001),
        ("Mul_", x => x.clone().Mul_(0.25), 0.75),
        ("Addcmul_", x => x.clone().Addcmul_(x, x, value: 2), 21),
        ("Addcdiv_", x => x.clone().Addcdiv_(x, x, value: 4), 7),
        ("IndexAdd_", x => x.clone().IndexAdd_(0, zeros([1], ScalarType.Int64), x), 6),
        ("Full", _ => NewTensor.Full([1], 0.125), 0.125),
        ("Arange", _ => NewTensor.Arange(11, 12), 11),
    ];

    [Fact]
    public void EveryHelper_IsAmongTheStressed()
    {
        var methods = new[] { typeof(TensorMath),
            typeof(NewTensor) }.SelectMany(type => type.GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly))
            // there is no Scalar in them
            .Where(method => method.Name is not (nameof(NewTensor.Of) or nameof(NewTensor.Normal) or nameof(NewTensor.Uniform)
                or nameof(TensorMath.KeptCopy)));
        Assert.Equal(methods.Select(method => method.Name).Order(StringComparer.Ordinal),
            Helpers.Select(helper => helper.Name).Order(StringComparer.Ordinal));
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void FourMillionCallsUnderConstantCollection_AllGiveTheirValue()
    {
        // the most plain calls fail in a second at about this; without a pause two cores make no calls
        const int Calls = 4_000_000, Threads = 2, CallsPerCollection = 200;
        Assert.False(typeof(TensorMath).Assembly.GetCustomAttribute<DebuggableAttribute>()?.IsJITOptimizerDisabled ?? false,
            "without optimisations nothing is collected early: -c Release");
        var (failures, made, finished) = (new List<string>(), 0, false);
        var collector = new Thread(() =>
        {
            while (!Volatile.Read(ref finished))
            {
                GC.Collect(0);
                for (var seen = Volatile.Read(ref made); Volatile.Read(ref made) - seen < CallsPerCollection
                    && !Volatile.Read(ref finished);)
                    Thread.Yield();
            }
        });
        var callers = Enumerable.Range(0, Threads)
            .Select(_ => new Thread(() => Call(Calls / Threads, failures, () => Interlocked.Increment(ref made)))).ToList();
        collector.Start();
        callers.ForEach(caller => caller.Start());
        callers.ForEach(caller => caller.Join());
        Volatile.Write(ref finished, true);
        collector.Join();
        Assert.True(failures.Count == 0, $"{failures.Count} of {Calls} calls failed, the first: {failures.FirstOrDefault()}");
    }

    private static void Call(int calls, List<string> failures, Action made)
    {
        using var outer = NewDisposeScope();
        var x = F([1], 3);
        for (var i = 0; i < calls; i += Helpers.Length)
        {
            using var scope = NewDisposeScope();
            foreach (var (name, call, value) in Helpers)
            {
                try
                {
                    var found = call(x).to_type(ScalarType.Float64).item<double>();
                    if (Math.Abs(found - value) > 1e-6)
                        Failed($"{name} gave {found} in place of {value}");
                }
                catch (Exception exception)
                {
                    Failed($"{name}: {exception.Message}");
                }
                made();
            }
        }

        void Failed(string what)
        {
            lock (failures)
                failures.Add(what);
        }
    }
}
