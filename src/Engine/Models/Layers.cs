using MendCluster.Engine.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// What the families truly share. B batch, T tokens, C hidden size, H heads, D head size. Activations are float32; weights may be
/// float32, bfloat16 or float16, and a product runs in the weight's dtype.
/// </summary>
internal static class Layers
{
    /// <summary>Stands for minus infinity in a float32 attention bias: exp() of it is exactly 0 beside any real score.</summary>
    public const float Masked = -1e30f;

    /// <summary>Up to so many the product W x^T is the faster one.</summary>
    private const int FewRows = 16;

    /// <summary>The angles of rotary positions are powers of it.</summary>
    public const int RotaryBase = 10000;

    /// <summary>x W^T + b in the dtype of W, returned as float32.</summary>
    /// <param name="x">[..., m] float32.</param>
    /// <param name="W">[n, m].</param>
    /// <param name="b">[n] or null.</param>
    /// <remarks>
    /// As a product of two matrices. Of more axes libtorch 2.10 makes one only where all strides fit, those of axes with one entry too; a
    /// slice such as the hidden states of [CLS] it multiplies example by example, for which oneDNN copies W once an example in bfloat16.
    /// Few rows, such as those of answers that go on together, it multiplies faster in float32 on a CPU with W in front.
    /// </remarks>
    public static Tensor Linear(Tensor x, Tensor W, Tensor? b = null)
    {
        var rows = x.reshape(-1, W.shape[1]);
        if (W.dtype == ScalarType.Float32 && rows.shape[0] is > 1 and <= FewRows && W.device.type == DeviceType.CPU)
        {
            var turned = W.mm(rows.t()).t();
            return (b is null ? turned : turned.Plus(b)).reshape([.. x.shape[..^1], W.shape[0]]);
        }
        var z = W.dtype == ScalarType.Float32
            ? nn.functional.linear(rows, W, b)
            : nn.functional.linear(rows.to_type(W.dtype), W, b).to_type(ScalarType.Float32);
        return z.reshape([.. x.shape[..^1], W.shape[0]]);
    }

    /// <summary>Rows of a table of tokens or positions, as float32.</summary>
    /// <param name="table">[V, C].</param>
    /// <param name="ids">[B, T] int64, on the host.</param>
    /// <returns>[B, T, C].</returns>
    public static Tensor Embed(Tensor table, Tensor ids) =>
        table.index_select(0, ids.reshape(-1).On(table.device)).to_type(ScalarType.Float32).reshape(ids.shape[0], ids.shape[1],
        table.shape[1]);

    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double eps) =>
        nn.functional.layer_norm(x, [x.shape[^1]], weight, bias, eps);

    /// <summary>T5's norm: no mean subtracted, no bias (root mean square).</summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double eps) =>
        x * (x * x).mean([-1], true).Plus(eps).rsqrt() * weight;

    /// <summary>GPT-2's gelu, the tanh form.</summary>
    public static Tensor GeluTanh(Tensor x) =>
        x.Times(0.5) * x.Plus(x.Times(0.044715) * x * x).Times(0.7978845608028654).tanh().Plus(1.0);

    /// <summary>The activation of a config's name; another name is refused.</summary>
    public static Func<Tensor, Tensor> Activation(string name, string file, string key = "activation") => name switch
    {
        "relu" => x => x.relu(),
        "gelu_new" or "gelu_pytorch_tanh" => GeluTanh,
        "gelu" => x => nn.functional.gelu(x),
        _ => throw Fault.Model(file, key, $"'{name}' is not known; known: relu, gelu, gelu_new"),
    };

    /// <summary>[B, T, H*D] to [B, H, T, D].</summary>
    public static Tensor SplitHeads(Tensor x, long heads) =>
        x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] / heads).transpose(1, 2);

    /// <summary>[B, H, T, D] to [B, T, H*D].</summary>
    public static Tensor MergeHeads(Tensor x) =>
        x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3]);

    /// <summary>softmax(scale q k^T + bias) v, in float32.</summary>
    /// <param name="q">[B, H, T, D].</param>
    /// <param name="k">[B, H, S, D].</param>
    /// <param name="v">[B, H, S, D].</param>
    /// <param name="bias">Broadcasts to [B, H, T, S]; <see cref="Masked"/> where a query may not look. Null: everything is visible.</param>
    /// <param name="scale">1/sqrt(D) in GPT-2; 1 in T5 and GPT-Neo.</param>
    /// <returns>[B, H, T, D].</returns>
    public static Tensor Attention(Tensor q, Tensor k, Tensor v, Tensor? bias, double scale)
    {
        var (B, H, T, D, S) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3], k.shape[2]);
        if (scale != 1.0)
            q = q.Times(scale);
        var scores = q.reshape(B * H, T, D).bmm(k.reshape(B * H, S, D).transpose(1, 2)).reshape(B, H, T, S);
        if (bias is not null)
            scores = scores.Plus(bias);
        return scores.softmax(-1).reshape(B * H, T, S).bmm(v.reshape(B * H, S, D)).reshape(B, H, T, D);
    }

    /// <summary>0 where a key is a token, <see cref="Masked"/> where it is padding. Null when nothing is padded.</summary>
    /// <param name="mask">[B, S] int64.</param>
    /// <returns>[B, 1, 1, S] float32.</returns>
    public static Tensor PaddingBias(Tensor mask) =>
        mask.Eq(0).to_type(ScalarType.Float32).Times(Masked).unsqueeze(1).unsqueeze(1);

    /// <summary>0 where key j is at or before query i, <see cref="Masked"/> after it. Queries are the last T of S tokens.</summary>
    /// <param name="window">With a window w, key j is visible iff i - w &lt; j &lt;= i (GPT-Neo's local layers).</param>
    /// <returns>[1, 1, T, S] float32.</returns>
    public static Tensor CausalBias(long T, long S, Device device, long? window = null)
    {
        var i = NewTensor.Arange(S - T, S, ScalarType.Int64, device).unsqueeze(1); // [T, 1]
        var j = NewTensor.Arange(0, S, ScalarType.Int64, device).unsqueeze(0);     // [1, S]
        var hidden = j.gt(i);
        if (window is { } w)
            hidden = hidden.logical_or(j.le(i.Minus(w)));
        return hidden.to_type(ScalarType.Float32).Times(Masked).unsqueeze(0).unsqueeze(0);
    }

    /// <summary>Of rotary positions: position p turns pair i of R channels by p / 10000^(2i/R).</summary>
    /// <param name="positions">[B or 1, T] int64, on the host.</param>
    /// <returns>[B or 1, 1, T, R/2] float32.</returns>
    public static Tensor RotaryAngles(Tensor positions, long R, Device device)
    {
        var frequencies = Enumerable.Range(0, (int)R / 2).Select(i => (float)Math.Pow(RotaryBase, -2.0 * i / R)).ToArray();
        return positions.On(device).to_type(ScalarType.Float32).unsqueeze(1).unsqueeze(3) * tensor(frequencies, device: CPU).On(device);
    }
}
