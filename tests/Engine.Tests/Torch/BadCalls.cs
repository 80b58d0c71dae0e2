using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>
/// Calls with arguments that do not fit. Made in a process of their own (MendCluster.Runner bad-calls): where the native code has no guard,
/// it ends the process.
/// </summary>
public static class BadCalls
{
    private static readonly ScalarType[] Types =
        [ScalarType.Float32, ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16, ScalarType.Int64, ScalarType.Bool];

    /// <summary>Every operator that the product calls, on arguments drawn at random.</summary>
    internal static readonly IReadOnlyDictionary<string, Action<Draw>> Operators = new Dictionary<string, Action<Draw>>
    {
        ["mm"] = d => d.x.mm(d.x),
        ["addmm"] = d => d.x.addmm(d.x, d.x),
        ["bmm"] = d => d.x.bmm(d.x),
        ["op_Multiply"] = d => _ = d.x * d.x,
        ["op_Subtraction"] = d => _ = d.x - d.x,
        ["op_Division"] = d => _ = d.x / d.x,
        ["op_UnaryNegation"] = d => _ = -d.x,
        ["add"] = d => d.x.Plus(d.x),
        ["add_"] = d => d.x.Add_(d.x, alpha: d.number),
        ["sub"] = d => d.x.Minus(d.number),
        ["sub_"] = d => d.x.sub_(d.x),
        ["mul"] = d => d.x.Times(d.number),
        ["mul_"] = d => d.x.Mul_(d.number),
        ["div"] = d => d.x.Over(d.number),
        ["div_"] = d => d.x.div_(d.x),
        ["addcmul_"] = d => d.x.Addcmul_(d.x, d.x, d.number),
        ["addcdiv_"] = d => d.x.Addcdiv_(d.x, d.x, d.number),
        ["clamp"] = d => d.x.Clamp(min: d.number),
        ["eq"] = d => d.x.Eq(d.number),
        ["ne"] = d => d.x.Ne(d.number),
        ["ge"] = d => d.x.Ge(d.number),
        ["gt"] = d => d.x.gt(d.x),
        ["lt"] = d => d.x.lt(d.x),
        ["le"] = d => d.x.le(d.x),
        ["logical_and"] = d => d.x.logical_and(d.x),
        ["logical_or"] = d => d.x.logical_or(d.x),
        ["logical_not"] = d => d.x.logical_not(),
        ["exp"] = d => d.x.exp(),
        ["log"] = d => d.x.log(),
        ["sqrt"] = d => d.x.sqrt(),
        ["rsqrt"] = d => d.x.rsqrt(),
        ["reciprocal"] = d => d.x.reciprocal(),
        ["neg"] = d => d.x.neg(),
        ["abs"] = d => d.x.abs(),
        ["sin"] = d => d.x.sin(),
        ["cos"] = d => d.x.cos(),
        ["tanh"] = d => d.x.tanh(),
        ["sigmoid"] = d => d.x.sigmoid(),
        ["relu"] = d => nn.functional.relu(d.x),
        ["gelu"] = d => nn.functional.gelu(d.x),
        ["silu"] = d => nn.functional.silu(d.x),
        ["logsigmoid"] = d => nn.functional.logsigmoid(d.x),
        ["linear"] = d => nn.functional.linear(d.x, d.x, d.flag ? d.x : null),
        ["layer_norm"] = d => nn.functional.layer_norm(d.x, d.shape, d.flag ? d.x : null, d.flag ? d.x : null),
        ["softmax"] = d => d.x.softmax(d.n),
        ["log_softmax"] = d => d.x.log_softmax(d.n),
        ["logsumexp"] = d => d.x.logsumexp(d.n),
        ["sum"] = d => d.x.sum([d.n], d.flag),
        ["mean"] = d => d.x.mean([d.n], d.flag),
        ["max"] = d => d.x.max(),
        ["min"] = d => d.x.min(),
        ["norm"] = d => d.x.norm(),
        ["median"] = d => d.x.median(),
        ["argmax"] = d => d.x.argmax(d.n),
        ["any"] = d => d.x.any(d.n),
        ["all"] = d => d.x.all(),
        ["isfinite"] = d => d.x.isfinite(),
        ["cumsum"] = d => d.x.cumsum(d.n),
        ["topk"] = d => d.x.topk(d.n, d.n),
        ["sort"] = d => d.x.sort(d.n),
        ["nonzero"] = d => d.x.nonzero(),
        ["where"] = d => where(d.x, d.x, d.x),
        ["maximum"] = d => maximum(d.x, d.x),
        ["minimum"] = d => minimum(d.x, d.x),
        ["outer"] = d => outer(d.x, d.x),
        ["cat"] = d => cat([d.x, d.x], d.n),
        ["stack"] = d => stack([d.x, d.x], d.n),
        ["gather"] = d => d.x.gather(d.n, d.indices),
        ["index_select"] = d => d.x.index_select(d.n, d.indices),
        ["index_add_"] = d => d.x.IndexAdd_(d.n, d.indices, d.x),
        ["select"] = d => d.x.select(d.n, d.n),
        ["narrow"] = d => d.x.narrow(d.n, d.n, d.n),
        ["split"] = d => d.x.split(d.n, d.n),
        ["squeeze"] = d => d.x.squeeze(d.n),
        ["unsqueeze"] = d => d.x.unsqueeze(d.n),
        ["transpose"] = d => d.x.transpose(d.n, d.n),
        ["t"] = d => d.x.t(),
        ["permute"] = d => d.x.permute(d.n, d.n),
        ["reshape"] = d => d.x.reshape(d.n, d.n),
        ["view"] = d => d.x.view(d.n, d.n),
        ["expand"] = d => d.x.expand(d.n, d.n),
        ["flatten"] = d => d.x.flatten(),
        ["contiguous"] = d => d.x.contiguous(),
        ["clone"] = d => d.x.clone(),
        ["copy_"] = d => d.x.copy_(d.x),
        ["detach"] = d => d.x.detach(),
        ["zero_"] = d => d.x.zero_(),
        ["to_type"] = d => d.x.to_type(d.type),
        ["to"] = d => d.x.to(CPU),
        ["cpu"] = d => d.x.cpu(),
        ["requires_grad_"] = d => d.x.requires_grad_(d.flag),
        ["size"] = d => d.x.size(d.n),
        ["numel"] = d => d.x.numel(),
        ["is_floating_point"] = d => d.x.is_floating_point(),
        ["zeros"] = d => zeros([d.n, d.n], d.type),
        ["zeros_like"] = d => zeros_like(d.x),
        ["ones"] = d => ones([d.n, d.n], d.type),
        ["ones_like"] = d => ones_like(d.x),
        ["empty"] = d => empty([d.n, d.n], d.type),
        ["empty_like"] = d => empty_like(d.x),
        ["full"] = d => NewTensor.Full([d.n, d.n], d.number, d.type),
        ["arange"] = d => NewTensor.Arange(d.n, d.n, d.type),
        ["eye"] = d => eye(d.n, d.n, d.type),
        ["tensor"] = d => NewTensor.Of(new float[Math.Abs(d.n)], d.n),
        ["normal_"] = d => NewTensor.Normal(d.shape, d.generator),
        ["uniform_"] = d => d.x.uniform_(d.n, d.n, d.generator),
        ["cholesky"] = d => linalg.cholesky(d.x),
        ["cholesky_solve"] = d => d.x.cholesky_solve(d.x, d.flag),
        ["qr"] = d => linalg.qr(d.x),
        ["svd"] = d => linalg.svd(d.x, d.flag),
        ["eigh"] = d => linalg.eigh(d.x),
        ["backward"] = d => Derivatives.Of([d.x], [d.x], [d.x]),
        ["item"] = d => d.x.item<float>(),
        ["data"] = d => d.x.data<float>(),
    };

    /// <param name="said">Gets the name of each call before it is made.</param>
    /// <returns>How many calls were refused, of how many.</returns>
    public static (int Refused, int Calls) Run(int seed, int rounds, Action<string> said)
    {
        var (refused, made) = (0, 0);
        var draw = new Draw(new(seed));
        var rows = BadCallTests.Rows.Select(row => (row.Operator, row.Call)).Concat(Gradients.Select((call, i) => ($"gradient {i}", call)));
        var random = Enumerable.Range(0, rounds).SelectMany(_ => Operators).Select(entry => (entry.Key, (Action)(() => entry.Value(draw))));
        foreach (var (name, call) in rows.Concat(random))
        {
            using var scope = NewDisposeScope();
            said(name);
            made++;
            try
            {
                call();
            }
            catch (Exception e) when (BadCallTests.IsRefusal(e))
            {
                refused++;
            }
        }
        return (refused, made);
    }

    /// <summary>Ends the process: shows that it would be seen.</summary>
#pragma warning disable RS0030 // the plain call
    public static void RunUnguarded() => ones(2, 3).matmul(ones(2, 3));
#pragma warning restore RS0030

    /// <summary>What autograd refuses.</summary>
    internal static readonly Action[] Gradients =
    [
        () => Derivatives.Of([ones(1)], [X]),
        () => Derivatives.Of([X * X], [X]),
        () => Derivatives.Of([X * X], [X], [ones(3)]),
        () => Derivatives.Of([X * X], [X], [ones(2), ones(2)]),
        () => Derivatives.Of([X.sum()], [ones(2)]),
        () => Derivatives.Of([X.sum()], [ones(2).requires_grad_()]),
        () => Derivatives.Of([], [X]),
        () => { var (x, y) = Squares(); Derivatives.Of([y], [x]); Derivatives.Of([y], [x]); },
        () => { var (x, y) = Squares(); x.Dispose(); Derivatives.Of([y], [x]); },
        () => { var (x, y) = Squares(); y.Dispose(); Derivatives.Of([y], [x]); },
        () => { var (x, y) = Squares(); using (no_grad()) x.mul_(ones(2)); Derivatives.Of([y], [x]); },
        () => Derivatives.WithGraph([ones(1)], [X]),
        () => Derivatives.WithGraph([X * X], [X]),
        () => Derivatives.WithGraph([X.sum()], [ones(2)]),
    ];

    private static Tensor X => ones(2).requires_grad_();

    private static (Tensor x, Tensor y) Squares()
    {
        var x = X;
        return (x, (x * x).sum());
    }

    /// <summary>Arguments.</summary>
    internal sealed class Draw(Random random)
    {
        /// <summary>A tensor of up to 4 dimensions of 0 to 4, of any type; one in 50 is disposed of.</summary>
        public Tensor x
        {
            get
            {
                var tensor = ones(shape, Types[random.Next(Types.Length)]);
                if (random.Next(4) == 0 && tensor.is_floating_point())
                    tensor.requires_grad_();
                if (random.Next(50) == 0)
                    tensor.Dispose();
                return tensor;
            }
        }

        /// <summary>A tensor of indices, in range or not.</summary>
        public Tensor indices
        {
            get
            {
                long[] shape = [.. Enumerable.Range(0, random.Next(3)).Select(_ => (long)random.Next(4))];
                return NewTensor.Of([.. Enumerable.Range(0, (int)shape.Aggregate(1L, (all, one) => all * one))
                    .Select(_ => (long)random.Next(-1, 4))], shape);
            }
        }

        public long[] shape => [.. Enumerable.Range(0, random.Next(5)).Select(_ => (long)random.Next(5))];

        /// <summary>-3 to 5.</summary>
        public int n => random.Next(-3, 6);

        public bool flag => random.Next(2) == 0;

        public Generator generator { get; } = new(1);

        public ScalarType type => Types[random.Next(Types.Length)];

        public Number number => random.Next(3) switch { 0 => n, 1 => n + 0.5, _ => double.NaN };
    }
}
