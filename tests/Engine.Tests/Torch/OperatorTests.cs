using MendCluster.Engine.Torch;
using TorchSharp;
using static MendCluster.Engine.Tests.Torch.Tensors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>A row an overload: what to call, and the shape and values that must come out.</summary>
public class OperatorTests
{
    private const double Inf = double.PositiveInfinity, NaN = double.NaN;

    // a = [1 -2 3; 4 5 -6], b = [2 2 3; 1 -1 0.5], v = [1 4 9], half = [0 0.5 1]
    private static Tensor a => F([2, 3], 1, -2, 3, 4, 5, -6);
    private static Tensor b => F([2, 3], 2, 2, 3, 1, -1, 0.5f);
    private static Tensor v => F([3], 1, 4, 9);
    private static Tensor half => F([3], 0, 0.5f, 1);
    private static Tensor truth => half.Ge(0.5); // [false true true]

    internal static readonly (string Name, Func<Tensor> Call, long[] Shape, double[] Values)[] Rows =
    [
        ("abs", () => a.abs(), [2, 3], [1, 2, 3, 4, 5, 6]),
        ("add", () => a.Plus(b), [2, 3], [3, 0, 6, 5, 4, -5.5]),
        ("add", () => a.Plus(v), [2, 3], [2, 2, 12, 5, 9, 3]),
        ("add", () => v.Plus(0.5), [3], [1.5, 4.5, 9.5]),
        ("add_", () => a.Add_(b), [2, 3], [3, 0, 6, 5, 4, -5.5]),
        ("add_", () => a.Add_(b, 2), [2, 3], [5, 2, 9, 6, 3, -5]),
        ("add_", () => v.Add_(1), [3], [2, 5, 10]),
        ("addcdiv_", () => v.Addcdiv_(F([3], 1, 2, 3), F([3], 2, 4, 3), 10), [3], [6, 9, 19]),
        ("addcmul_", () => v.Addcmul_(F([3], 1, 2, 3), F([3], 2, 4, 3), -1), [3], [-1, -4, 0]),
        ("clamp", () => a.Clamp(min: 0), [2, 3], [1, 0, 3, 4, 5, 0]),
        ("cos", () => half.cos(), [3], [1, Math.Cos(0.5), Math.Cos(1)]),
        ("div", () => a.div(b), [2, 3], [0.5, -1, 1, 4, -5, -12]),
        ("div", () => v.Over(2), [3], [0.5, 2, 4.5]),
        ("exp", () => half.exp(), [3], [1, Math.Exp(0.5), Math.E]),
        ("log", () => v.log(), [3], [0, Math.Log(4), Math.Log(9)]),
        ("log", () => half.log(), [3], [-Inf, Math.Log(0.5), 0]),
        ("mul", () => a.mul(b), [2, 3], [2, -4, 9, 4, -5, -3]),
        ("mul", () => v.Times(-2), [3], [-2, -8, -18]),
        ("mul_", () => a.mul_(b), [2, 3], [2, -4, 9, 4, -5, -3]),
        ("mul_", () => v.Mul_(0.5), [3], [0.5, 2, 4.5]),
        ("neg", () => v.neg(), [3], [-1, -4, -9]),
        ("relu", () => a.relu(), [2, 3], [1, 0, 3, 4, 5, 0]),
        ("rsqrt", () => v.rsqrt(), [3], [1, 0.5, 1.0 / 3]),
        ("sigmoid", () => half.sigmoid(), [3], [0.5, 1 / (1 + Math.Exp(-0.5)), 1 / (1 + Math.Exp(-1))]),
        ("sin", () => half.sin(), [3], [0, Math.Sin(0.5), Math.Sin(1)]),
        ("sqrt", () => v.sqrt(), [3], [1, 2, 3]),
        ("sqrt", () => v.neg().sqrt(), [3], [NaN, NaN, NaN]),
        ("sub", () => a.sub(b), [2, 3], [-1, -4, 0, 3, 6, -6.5]),
        ("sub", () => v.Minus(1), [3], [0, 3, 8]),
        ("sub_", () => a.sub_(b), [2, 3], [-1, -4, 0, 3, 6, -6.5]),
        ("tanh", () => half.tanh(), [3], [0, Math.Tanh(0.5), Math.Tanh(1)]),

        ("eq", () => a.eq(b), [2, 3], [0, 0, 1, 0, 0, 0]),
        ("eq", () => v.Eq(4), [3], [0, 1, 0]),
        ("ge", () => a.ge(b), [2, 3], [0, 0, 1, 1, 1, 0]),
        ("ge", () => v.Ge(4), [3], [0, 1, 1]),
        ("gt", () => a.gt(b), [2, 3], [0, 0, 0, 1, 1, 0]),
        ("isfinite", () => F([3], 1, float.NaN, float.NegativeInfinity).isfinite(), [3], [1, 0, 0]),
        ("le", () => a.le(b), [2, 3], [1, 1, 1, 0, 0, 1]),
        ("logical_and", () => truth.logical_and(v.Ne(9)), [3], [0, 1, 0]),
        ("logical_not", () => truth.logical_not(), [3], [1, 0, 0]),
        ("logical_or", () => truth.logical_not().logical_or(v.Eq(9)), [3], [1, 0, 1]),
        ("lt", () => a.lt(b), [2, 3], [1, 1, 0, 0, 0, 1]),
        ("ne", () => a.ne(b), [2, 3], [1, 1, 0, 1, 1, 1]),
        ("ne", () => v.Ne(4), [3], [1, 0, 1]),

        ("all", () => truth.all(), [], [0]),
        ("all", () => a.Ge(-2).all(1), [2], [1, 0]),
        ("all", () => a.Ge(-2).all(1, true), [2, 1], [1, 0]),
        ("any", () => truth.any(), [], [1]),
        ("any", () => a.Eq(-6).any(1), [2], [0, 1]),
        ("argmax", () => a.argmax(), [], [4]),
        ("argmax", () => a.argmax(1), [2], [2, 1]),
        ("argmax", () => a.argmax(0, true), [1, 3], [1, 1, 0]),
        ("cumsum", () => a.cumsum(1), [2, 3], [1, -1, 2, 4, 9, 3]),
        ("log_softmax", () => F([2], 0, (float)Math.Log(3)).log_softmax(0), [2], [Math.Log(0.25), Math.Log(0.75)]),
        ("logsumexp", () => F([1, 2], 1000, 1000).logsumexp(1), [1], [1000 + Math.Log(2)]),
        ("max", () => a.max(), [], [5]),
        ("mean", () => a.mean(), [], [5.0 / 6]),
        ("mean", () => a.mean([1]), [2], [2.0 / 3, 1]),
        ("mean", () => a.mean([-1], true), [2, 1], [2.0 / 3, 1]),
        ("min", () => a.min(), [], [-6]),
        ("norm", () => F([2], 3, 4).norm(), [], [5]),
        ("softmax", () => F([2], 0, (float)Math.Log(3)).softmax(0), [2], [0.25, 0.75]),
        ("std", () => F([3], 1, 2, 3).std(), [], [1]),
        ("std", () => F([2], 1, 3).std(false), [], [1]),
        ("sum", () => a.sum(), [], [5]),
        ("sum", () => a.sum([0]), [3], [5, 3, -3]),
        ("sum", () => a.sum([1], true), [2, 1], [2, 3]),
        ("topk", () => a.topk(2, 1).values, [2, 2], [3, 1, 5, 4]),
        ("topk", () => a.topk(2, 1).indexes, [2, 2], [2, 0, 1, 0]),
        ("topk", () => v.topk(1, 0, false).values, [1], [1]),

        ("bmm", () => a.unsqueeze(0).bmm(b.t().unsqueeze(0)), [1, 2, 2], [7, 4.5, 0, -4]),
        ("mm", () => a.mm(b.t()), [2, 2], [7, 4.5, 0, -4]),

        ("qr", () => linalg.qr(F([2, 2], 3, 0, 4, 5)).R.abs(), [2, 2], [5, 4, 0, 3]),
        ("qr", () => linalg.qr(F([2, 1], 3, 4)).Q.abs(), [2, 1], [0.6, 0.8]),
        ("svd", () => linalg.svd(F([2, 3], 0, 0, 2, 3, 0, 0), fullMatrices: false).S, [2], [3, 2]),
        ("svd", () => linalg.svd(F([2, 3], 0, 0, 2, 3, 0, 0), fullMatrices: false).Vh.abs(), [2, 3], [1, 0, 0, 0, 0, 1]),
        ("svd", () => linalg.svd(F([1, 2], 3, 4)).Vh.abs().narrow(0, 0, 1), [1, 2], [0.6, 0.8]),

        ("contiguous", () => a.t().contiguous(), [3, 2], [1, 4, -2, 5, 3, -6]),
        ("expand", () => F([2, 1], 1, 2).expand(2, 2), [2, 2], [1, 1, 2, 2]),
        ("flatten", () => a.flatten(), [6], [1, -2, 3, 4, 5, -6]),
        ("narrow", () => a.narrow(1, 1, 2), [2, 2], [-2, 3, 5, -6]),
        ("permute", () => a.permute(1, 0), [3, 2], [1, 4, -2, 5, 3, -6]),
        ("reshape", () => a.reshape(3, -1), [3, 2], [1, -2, 3, 4, 5, -6]),
        ("select", () => a.select(0, 1), [3], [4, 5, -6]),
        ("select", () => a.select(1, -1), [2], [3, -6]),
        ("split", () => a.split(2, 1)[0], [2, 2], [1, -2, 4, 5]),
        ("split", () => a.split(2, 1)[1], [2, 1], [3, -6]),
        ("squeeze", () => v.reshape(1, 3, 1).squeeze(), [3], [1, 4, 9]),
        ("squeeze", () => v.reshape(1, 3, 1).squeeze(0), [3, 1], [1, 4, 9]),
        ("t", () => a.t(), [3, 2], [1, 4, -2, 5, 3, -6]),
        ("transpose", () => a.transpose(0, 1), [3, 2], [1, 4, -2, 5, 3, -6]),
        ("unsqueeze", () => v.unsqueeze(-1), [3, 1], [1, 4, 9]),

        ("gather", () => a.gather(1, I([2, 1], 2, 0)), [2, 1], [3, 4]),
        ("index_add_", () => v.IndexAdd_(0, I([2], 0, 0), F([2], 1, 2)), [3], [4, 4, 9]),
        ("index_select", () => a.index_select(1, I([2], 2, 2)), [2, 2], [3, 3, -6, -6]),
        ("nonzero", () => half.nonzero(), [2, 1], [1, 2]),

        ("clone", () => v.clone(), [3], [1, 4, 9]),
        ("copy_", () => v.copy_(half), [3], [0, 0.5, 1]),
        ("cpu", () => v.cpu(), [3], [1, 4, 9]),
        ("detach", () => v.detach(), [3], [1, 4, 9]),
        ("to", () => v.to(CPU), [3], [1, 4, 9]),
        ("to_type", () => F([3], 1.9f, -1.9f, 0).to_type(ScalarType.Int64), [3], [1, -1, 0]),
        ("to_type", () => F([1], 1.00390625f).to_type(ScalarType.BFloat16), [1], [1]), // ties to even
        ("to_type", () => F([1], 65520).to_type(ScalarType.Float16), [1], [Inf]),
        ("zero_", () => v.zero_(), [3], [0, 0, 0]),
        ("requires_grad_", () => v.requires_grad_(), [3], [1, 4, 9]),

        ("op_Subtraction", () => a - b, [2, 3], [-1, -4, 0, 3, 6, -6.5]),
        ("op_Multiply", () => a * b, [2, 3], [2, -4, 9, 4, -5, -3]),
        ("op_Division", () => a / b, [2, 3], [0.5, -1, 1, 4, -5, -12]),
        ("op_UnaryNegation", () => -v, [3], [-1, -4, -9]),

        ("eye", () => eye(2), [2, 2], [1, 0, 0, 1]),
        ("eye", () => eye(1, 2, ScalarType.Float64), [1, 2], [1, 0]),
        ("cholesky", () => linalg.cholesky(F([2, 2], 4, 2, 2, 5)), [2, 2], [2, 0, 1, 2]),
        ("cholesky_solve", () => F([2, 1], 8, 9).cholesky_solve(F([2, 2], 2, 0, 1, 2)), [2, 1], [1.375, 1.25]),
        ("cholesky_solve", () => F([2, 1], 8, 9).cholesky_solve(F([2, 2], 2, 1, 0, 2), upper: true), [2, 1], [1.375, 1.25]),
        ("arange", () => NewTensor.Arange(2, 5), [3], [2, 3, 4]),
        ("arange", () => NewTensor.Arange(0, 3), [3], [0, 1, 2]),
        ("arange", () => NewTensor.Arange(0, 3, ScalarType.Int64, CPU), [3], [0, 1, 2]),
        ("cat", () => cat([a, b], 0), [4, 3], [1, -2, 3, 4, 5, -6, 2, 2, 3, 1, -1, 0.5]),
        ("cat", () => cat(new List<Tensor> { a, b }, -1), [2, 6], [1, -2, 3, 2, 2, 3, 4, 5, -6, 1, -1, 0.5]),
        ("empty", () => empty([2, 3]), [2, 3], []),
        ("empty_like", () => empty_like(a), [2, 3], []),
        ("full", () => NewTensor.Full([2], 7, ScalarType.Float32), [2], [7, 7]),
        ("full", () => NewTensor.Full([2], 0.5), [2], [0.5, 0.5]),
        ("full", () => NewTensor.Full([1, 2], 0.5), [1, 2], [0.5, 0.5]),
        ("maximum", () => maximum(a, b), [2, 3], [2, 2, 3, 4, 5, 0.5]),
        ("minimum", () => minimum(a, b), [2, 3], [1, -2, 3, 1, -1, -6]),
        ("ones", () => ones([2]), [2], [1, 1]),
        ("ones", () => ones(2), [2], [1, 1]),
        ("ones", () => ones(1, 2), [1, 2], [1, 1]),
        ("ones_like", () => ones_like(a), [2, 3], [1, 1, 1, 1, 1, 1]),
        ("outer", () => outer(v, half), [3, 3], [0, 0.5, 1, 0, 2, 4, 0, 4.5, 9]),
        ("rand", () => rand([2, 2]).lt(ones([2, 2])).all(), [], [1]),
        ("randint", () => randint(5, 6, [2]), [2], [5, 5]),
        ("randn", () => randn([2, 2]).isfinite().all(), [], [1]),
        ("stack", () => stack([v, half], 1), [3, 2], [1, 0, 4, 0.5, 9, 1]),
        ("tensor", () => tensor(2.5f), [], [2.5]),
        ("tensor", () => tensor(2.5), [], [2.5]),
        ("tensor", () => tensor(2L), [], [2]),
        ("tensor", () => tensor(new[] { 1f, 2f }), [2], [1, 2]),
        ("tensor", () => tensor(new[] { 1d, 2d }), [2], [1, 2]),
        ("tensor", () => tensor(new[] { 1L, 2L }), [2], [1, 2]),
        ("tensor", () => tensor(new[] { 1d, 2d }, [2, 1]), [2, 1], [1, 2]),
        ("tensor", () => tensor(new[] { 1, 2 }, [1, 2]), [1, 2], [1, 2]),
        ("tensor", () => tensor(new[] { 1L, 2L }, device: CPU), [2], [1, 2]),
        ("tensor", () => tensor(new[] { 1f, 2f }, ScalarType.Int64), [2], [1, 2]),
        ("where", () => where(a.Ge(0), a, b), [2, 3], [1, 2, 3, 4, 5, 0.5]),
        ("zeros", () => zeros([2]), [2], [0, 0]),
        ("zeros", () => zeros(2), [2], [0, 0]),
        ("zeros", () => zeros(1, 2), [1, 2], [0, 0]),
        ("zeros_like", () => zeros_like(a), [2, 3], [0, 0, 0, 0, 0, 0]),
        ("gelu", () => nn.functional.gelu(F([3], 0, 1, -1)), [3], [0, 0.841344746, -0.158655254]),
        ("layer_norm", () => nn.functional.layer_norm(F([1, 2], 1, 3), [2], F([2], 2, 2), F([2], 0, 1), 0), [1, 2], [-2, 3]),
        ("layer_norm", () => nn.functional.layer_norm(F([1, 2], 1, 3), [2], eps: 0), [1, 2], [-1, 1]),
        ("linear", () => nn.functional.linear(v, a, F([2], 1, -1)), [2], [21, -31]),
        ("linear", () => nn.functional.linear(v, a), [2], [20, -30]),
        ("softmax", () => nn.functional.softmax(F([2], 0, (float)Math.Log(3)), 0), [2], [0.25, 0.75]),
    ];

    public static TheoryData<string, int> All()
    {
        var rows = new TheoryData<string, int>();
        for (var i = 0; i < Rows.Length; i++)
            rows.Add(Rows[i].Name, i);
        return rows;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Operator_GivesTheKnownValues(string name, int row)
    {
        using var scope = NewDisposeScope();
        Assert.Equal(name, Rows[row].Name);
        Rows[row].Call().AssertIs(Rows[row].Shape, Rows[row].Values);
    }

    [Fact]
    public void InPlaceOperator_ChangesTheTensorItWasCalledOn()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2);
        var view = x.narrow(0, 1, 1);
        view.Mul_(5);
        x.AssertIs([2], 1, 10);
    }

    [Fact]
    public void Factories_ChooseTheTypeOfPyTorch()
    {
        using var scope = NewDisposeScope();
        Assert.Equal(ScalarType.Float32, zeros([1]).dtype);
        Assert.Equal(ScalarType.Int64, NewTensor.Full([1], 3).dtype);
        Assert.Equal(ScalarType.Float32, NewTensor.Full([1], 3.0).dtype);
        Assert.Equal(ScalarType.Int64, NewTensor.Arange(0, 3).dtype);
        Assert.Equal(ScalarType.Int64, randint(0, 9, [2]).dtype);
        Assert.Equal(ScalarType.Bool, zeros([1]).Eq(0).dtype);
        Assert.Equal(ScalarType.Float64, tensor(1.0).dtype);
        Assert.Equal(ScalarType.BFloat16, ones([1], ScalarType.BFloat16).dtype);
    }

    [Fact]
    public void SameSeed_DrawsTheSameNumbers()
    {
        using var scope = NewDisposeScope();
        Tensor Draw(ulong seed)
        {
            using var generator = new Generator(seed);
            return randn([64], generator: generator);
        }

        Assert.Equal(Draw(7).Values(), Draw(7).Values());
        Assert.NotEqual(Draw(7).Values(), Draw(8).Values());
    }

    [Fact]
    public void Seed_DrawsTheNumbersOfPyTorch() // torch.randn(3, generator=torch.Generator().manual_seed(0))
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(0);
        var drawn = randn([3], generator: generator).Values();
        Assert.Equal(1.5410, drawn[0], 4);
        Assert.Equal(-0.2934, drawn[1], 4);
        Assert.Equal(-2.1788, drawn[2], 4);
    }

    [Fact]
    public void Data_OfAViewComesInRowMajorOrder()
    {
        using var scope = NewDisposeScope();
        Assert.Equal([1f, 4, -2, 5, 3, -6], a.t().data<float>().ToArray());
        Assert.Equal([-2f, 5], a.select(1, 1).data<float>().ToArray());
    }

    [Fact]
    public void Bytes_AreTheTensorsOwn()
    {
        using var scope = NewDisposeScope();
        var x = F([2], 1, 2);
        BitConverter.GetBytes(42f).CopyTo(x.bytes[4..]);
        x.AssertIs([2], 1, 42);
    }

    [Fact]
    public void Item_IsTheValueOfAOneElementTensor()
    {
        using var scope = NewDisposeScope();
        Assert.Equal(2.5f, F([1, 1], 2.5f).item<float>());
        Assert.Equal(7L, I([], 7).item<long>());
        Assert.True(F([], 1).Ge(0).item<bool>());
        Assert.Equal(1.5, F([], 1.5f).to_type(ScalarType.Float64).item<double>());
    }

    [Fact]
    public void Properties_DescribeTheTensor()
    {
        using var scope = NewDisposeScope();
        var x = zeros([2, 0, 3], ScalarType.Int64);
        Assert.Equal([2, 0, 3], x.shape);
        Assert.Equal(3, x.dim());
        Assert.Equal(0, x.numel());
        Assert.Equal(DeviceType.CPU, x.device_type);
        Assert.Equal(CPU.type, x.device.type);
        Assert.Equal("cpu", x.device.ToString());
        Assert.True(x.is_contiguous());
        Assert.False(a.t().is_contiguous());
        Assert.Equal(3, a.size(1));
        Assert.Equal(3, a.size(-1));
        Assert.Equal(12, ones([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]).shape.Length);
    }
}
