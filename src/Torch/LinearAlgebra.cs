using static MendCluster.Torch.Dispatcher;

namespace TorchSharp;

public static partial class torch
{
    public static class linalg
    {
        /// <summary>The reduced QR decomposition of a matrix [m, n]: Q [m, k] with orthonormal columns, R [k, n], k = min(m, n).</summary>
        public static (Tensor Q, Tensor R) qr(Tensor input) => CallMany("aten::linalg_qr", input) is [var q, var r] ? (q, r) : throw new InvalidOperationException("linalg.qr returned something else");

        /// <summary>Singular values in descending order. [m, n] = U [m, k] diag(S [k]) Vh [k, n].</summary>
        /// <param name="fullMatrices">Square U and Vh instead, with k = min(m, n) singular values.</param>
        public static (Tensor U, Tensor S, Tensor Vh) svd(Tensor input, bool fullMatrices = true) =>
            CallMany("aten::linalg_svd", input, fullMatrices) is [var u, var s, var vh] ? (u, s, vh) : throw new InvalidOperationException("linalg.svd returned something else");
    }
}
