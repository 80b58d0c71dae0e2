using System.Runtime.InteropServices;
using MendCluster.Engine.Torch;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>Wrong shapes, ranks, types, indices and arguments: each ends in an exception, and the process goes on.</summary>
public class BadCallTests
{
    // x [2x3] float, v [3] float, cube [2x2x2] float, counts [3] int64, flags [3] bool
    private static Tensor x => F([2, 3], 1, 2, 3, 4, 5, 6);
    private static Tensor v => F([3], 1, 2, 3);
    private static Tensor cube => ones([2, 2, 2]);
    private static Tensor counts => I([3], 1, 2, 3);
    private static Tensor flags => v.Ne(1);

    /// <summary>The operator, what the message must show of the arguments, and the call.</summary>
    internal static readonly (string Operator, string Shown, Action Call)[] Rows =
    [
        // Shapes
        ("mm", "[2x3]", () => x.mm(x)),
        ("bmm", "[2x2x2]", () => cube.bmm(ones([3, 2, 2]))),
        ("bmm", "[2x3x2]", () => cube.bmm(ones([2, 3, 2]))),
        ("add", "[2x3]", () => x.Plus(ones(2))),
        ("sub", "[2x3]", () => x.sub(ones(2))),
        ("mul", "[2x3]", () => x.mul(ones(2))),
        ("div", "[2x3]", () => x.div(ones(2))),
        ("add_", "[3]", () => v.Add_(x)),
        ("mul_", "[3]", () => v.mul_(x)),
        ("sub_", "[3]", () => v.sub_(x)),
        ("addcdiv_", "[4]", () => v.Addcdiv_(ones(4), v, 1)),
        ("addcmul_", "[4]", () => v.Addcmul_(v, ones(4), 1)),
        ("eq", "[2x3]", () => x.eq(ones(2))),
        ("gt", "[2x3]", () => x.gt(ones(2))),
        ("logical_and", "[4]", () => flags.logical_and(ones(4))),
        ("where", "[4]", () => where(flags, v, ones(4))),
        ("maximum", "[2x3]", () => maximum(x, ones(2))),
        ("cat", "[2x2]", () => cat([x, ones(2, 2)], 0)),
        ("stack", "[2x2]", () => stack([x, ones(2, 2)], 0)),
        ("reshape", "[4, 2]", () => x.reshape(4, 2)),
        ("reshape", "[-1, -1]", () => x.reshape(-1, -1)),
        ("expand", "[4, 3]", () => x.expand(4, 3)),
        ("copy_", "[4]", () => v.copy_(ones(4))),
        ("index_add_", "[4x2]", () => x.IndexAdd_(0, I([4], 0, 0, 0, 0), ones(4, 2))),
        ("linear", "[2x2]", () => nn.functional.linear(x, ones(2, 2))),
        ("linear", "[4]", () => nn.functional.linear(x, ones(2, 3), ones(4))),
        ("layer_norm", "[2x3]", () => nn.functional.layer_norm(x, [4])),
        ("layer_norm", "[4]", () => nn.functional.layer_norm(x, [3], ones(4))),

        // Ranks
        ("mm", "[3]", () => x.mm(v)),
        ("bmm", "[2x3]", () => x.bmm(x)),
        ("outer", "[2x3]", () => outer(x, v)),
        ("t", "[2x2x2]", () => cube.t()),
        ("permute", "[0, 0]", () => x.permute(0, 0)),
        ("permute", "[0, 1, 2]", () => x.permute(0, 1, 2)),
        ("index_select", "[2x3]", () => v.index_select(0, x.to_type(ScalarType.Int64))),
        ("gather", "[2x2x2]", () => x.gather(0, cube.to_type(ScalarType.Int64))),

        // Types
        ("mm", "Float64", () => x.mm(x.t().to_type(ScalarType.Float64))),
        ("mm", "Int64", () => x.mm(x.t().to_type(ScalarType.Int64))),
        ("linear", "BFloat16", () => nn.functional.linear(x, ones([2, 3], ScalarType.BFloat16))),
        ("add_", "Int64", () => counts.Add_(1.5)),
        ("where", "Float32", () => where(v, v, v)),
        ("gather", "Float32", () => v.gather(0, v)),
        ("index_select", "Float32", () => v.index_select(0, v)),
        ("mean", "Int64", () => counts.mean()),
        ("softmax", "Int64", () => counts.softmax(0)),
        ("log_softmax", "Int64", () => counts.log_softmax(0)),
        ("gelu", "Int64", () => nn.functional.gelu(counts)),
        ("randn", "Int64", () => randn([2], ScalarType.Int64)),
        ("requires_grad", "Int64", () => counts.requires_grad_()),

        // Dimensions and indices
        ("sum", "[2x3]", () => x.sum([2])),
        ("mean", "[2x3]", () => x.mean([-3])),
        ("softmax", "[2x3]", () => x.softmax(2)),
        ("cumsum", "[2x3]", () => x.cumsum(5)),
        ("argmax", "[2x3]", () => x.argmax(2)),
        ("any", "[2x3]", () => x.Ne(0).any(2)),
        ("logsumexp", "[2x3]", () => x.logsumexp(2)),
        ("select", "[2x3]", () => x.select(0, 2)),
        ("select", "[2x3]", () => x.select(2, 0)),
        ("narrow", "[2x3]", () => x.narrow(1, 2, 2)),
        ("narrow", "-1", () => x.narrow(1, 0, -1)),
        ("split", "[2x3]", () => x.split(1, 2)),
        ("split", "-1", () => x.split(-1)),
        ("squeeze", "[2x3]", () => x.squeeze(2)),
        ("unsqueeze", "[2x3]", () => x.unsqueeze(4)),
        ("transpose", "[2x3]", () => x.transpose(0, 2)),
        ("cat", "[2x3]", () => cat([x, x], 2)),
        ("index_select", "[2x3]", () => x.index_select(0, I([1], 2))),
        ("index_select", "[2x3]", () => x.index_select(0, I([1], -1))),
        ("gather", "[3]", () => v.gather(0, I([1], 3))),
        ("index_add_", "[3]", () => v.IndexAdd_(0, I([1], 3), ones(1))),
        ("topk", "[3]", () => v.topk(4)),

        // Arguments
        ("cat", "{}", () => cat([])),
        ("stack", "{}", () => stack([])),
        ("max", "[0]", () => zeros([0]).max()),
        ("argmax", "[0]", () => zeros([0]).argmax()),
        ("zeros", "[-1]", () => zeros([-1])),
        ("full", "[2, -1]", () => NewTensor.Full([2, -1], 0)),
        ("arange", "5", () => NewTensor.Arange(5, 2)),
        ("randint", "9", () => randint(9, 3, [2])),
    ];

    public static TheoryData<string, int> All()
    {
        var rows = new TheoryData<string, int>();
        for (var i = 0; i < Rows.Length; i++)
            rows.Add(Rows[i].Operator, i);
        return rows;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void BadCall_EndsInAnExceptionAndTheProcessGoesOn(string name, int row)
    {
        using var scope = NewDisposeScope();
        Assert.Equal(name, Rows[row].Operator);
        AssertRefused(Rows[row].Call);
        ones(2).Plus(1).AssertIs([2], 2, 2);
    }

    public static readonly TheoryData<string, Action> WrongReads = new()
    {
        { "more elements than the shape", () => F([2], 1, 2, 3) },
        { "fewer elements than the shape", () => I([2, 2], 1, 2, 3) },
        { "item of three", () => v.item<float>() },
        { "float read as double", () => v.narrow(0, 0, 1).item<double>() },
        { "float read as long", () => v.data<long>() },
        { "bytes of a transposed view", () => _ = x.t().bytes[0] },
        { "size of a dimension that is not there", () => x.size(2) },
    };

    [Theory]
    [MemberData(nameof(WrongReads), DisableDiscoveryEnumeration = true)]
    public void WrongRead_EndsInAnException(string what, Action call)
    {
        using var scope = NewDisposeScope();
        var refused = AssertRefused(call);
        Assert.False(string.IsNullOrWhiteSpace(refused.Message), what);
    }

    [Fact]
    public void DisposedTensor_IsRefusedEverywhere()
    {
        using var scope = NewDisposeScope();
        var gone = F([2, 3], 1, 2, 3, 4, 5, 6);
        gone.Dispose();
        Action[] calls =
        [
            () => gone.mm(x), () => x.mm(gone), () => gone.Add_(1), () => cat([x, gone]), () => _ = gone.shape, () => _ = gone.dtype,
            () => gone.item<float>(), () => gone.data<float>(), () => _ = gone.requires_grad, () => gone.DetachFromDisposeScope().clone(),
            () => nn.functional.linear(x, x, gone), () => Derivatives.Of([gone], [x]), () => x.IndexAdd_(0, gone, gone),
        ];
        foreach (var call in calls)
            Assert.IsAssignableFrom<InvalidOperationException>(AssertRefused(call));
    }

    internal static Exception AssertRefused(Action call)
    {
        var exception = Assert.ThrowsAny<Exception>(call);
        Assert.True(IsRefusal(exception), exception.ToString());
        return exception;
    }

    internal static bool IsRefusal(Exception e) =>
        e is ExternalException or ArgumentException or InvalidOperationException or NotImplementedException or IndexOutOfRangeException;
}
