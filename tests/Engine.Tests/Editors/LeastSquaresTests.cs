using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

public sealed class LeastSquaresTests : IDisposable
{
    private readonly IDisposable _scope = NewDisposeScope();
    private readonly Generator _generator = new(5);

    public void Dispose()
    {
        _generator.Dispose();
        _scope.Dispose();
    }

    [Theory]
    [InlineData(3, 7)] // fewer keys than in-features
    [InlineData(7, 7)]
    [InlineData(20, 7)] // more
    [InlineData(0, 7)]
    public void TheFactoredShift_IsTheRidgeSolution(int T, int m)
    {
        var (K, D) = (Draw(T, m), Draw(T, 4));
        var update = new LeastSquares(K, 0.5).Update(D);
        Assert.Equal(Math.Min(T, m), update.Rank);
        Close(Dense(K, D, 0.5), -update.ToDense().t().to_type(ScalarType.Float64), 1e-6);
    }

    [Fact]
    public void DualAndPrimal_AreTheSame()
    {
        var (K, D) = (Draw(6, 7), Draw(6, 4));
        // Rows of zeros add nothing to K^T K and K^T D, but make more keys than in-features of them.
        var more = new LeastSquares(cat([K, zeros(3, 7)], 0), 0.5).Update(cat([D, zeros(3, 4)], 0));
        Close(new LeastSquares(K, 0.5).Update(D).ToDense().to_type(ScalarType.Float64), more.ToDense().to_type(ScalarType.Float64), 1e-6);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(20)]
    public void Backward_IsAutogradThroughTheSolve(int T)
    {
        var (K, D, rho) = (Draw(T, 7), Draw(T, 4).requires_grad_(), tensor(-0.7).requires_grad_());
        var G = Draw(7, 4).to_type(ScalarType.Float64); // dL/dS
        var expected = Derivatives.Of([(Dense(K, D, rho.exp()) * G).sum()], [D, rho]);
        using var _ = no_grad();
        var equations = new LeastSquares(K, Math.Exp(-0.7));
        var update = equations.Update(D);
        // S = uTilde^T deltaTilde
        var (ofD, ofRho) = equations.Backward(update.deltaTilde, update.uTilde.to_type(ScalarType.Float64).mm(G));
        Close(expected[0].to_type(ScalarType.Float64), ofD, 1e-5);
        Assert.Equal(expected[1].item<double>(), ofRho, 5);
    }

    [Fact]
    public void WithASmallRidge_EachKeyLosesWhatWasWished_HoweverOftenItIsWished()
    {
        var (K, D) = (Draw(3, 7), Draw(3, 4));
        var once = new LeastSquares(K, 1e-9).Update(D);
        Close(D, once.Of(K), 1e-5);
        var thrice = new LeastSquares(cat([K, K, K], 0), 1e-9).Update(cat([D, D, D], 0));
        Close(D, thrice.Of(K), 1e-5);
    }

    [Fact]
    public void WithAnEnormousRidge_NothingChanges()
    {
        var K = Draw(3, 7);
        Assert.True(new LeastSquares(K, 1e12).Update(Draw(3, 4)).Of(K).abs().max().item<float>() < 1e-9);
    }

    private Tensor Draw(int rows, int columns) => randn([rows, columns], generator: _generator);

    /// <summary>(K^T K + lambda I)^-1 K^T D. [m, n] float64.</summary>
    private static Tensor Dense(Tensor K, Tensor D, double lambda) => Dense(K, D, tensor(lambda));

    private static Tensor Dense(Tensor K, Tensor D, Tensor lambda)
    {
        var (k, d) = (K.to_type(ScalarType.Float64), D.to_type(ScalarType.Float64));
        return k.t().mm(d).cholesky_solve(linalg.cholesky(k.t().mm(k).Plus(eye(k.shape[1], dtype: ScalarType.Float64) * lambda)));
    }

    private static void Close(Tensor expected, Tensor actual, double relative)
    {
        Assert.Equal(expected.shape, actual.shape);
        var difference = (expected - actual).to_type(ScalarType.Float64).norm().item<double>();
        Assert.True(difference <= relative * expected.to_type(ScalarType.Float64).norm().item<double>(), $"differs by {difference}");
    }
}
