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
    [InlineData(3, 0)]
    [InlineData(20, 0)]
    [InlineData(3, 2)] // fewer preserved keys than in-features
    [InlineData(20, 2)]
    [InlineData(3, 30)]
    [InlineData(20, 30)]
    public void Backward_IsAutogradThroughTheSolve(int T, int preserved)
    {
        var (K, K0, D, rho) = (Draw(T, 7), Draw(preserved, 7), Draw(T, 4).requires_grad_(), tensor(-0.7).requires_grad_());
        var G = Draw(7, 4).to_type(ScalarType.Float64); // dL/dS
        var expected = Derivatives.Of([(Dense(K, D, rho.exp(), K0, beta: 0.8) * G).sum()], [D, rho]);
        using var _ = no_grad();
        var equations = new LeastSquares(K, Math.Exp(-0.7), preserved == 0 ? null : Sketch(K0), beta: 0.8);
        var update = equations.Update(D);
        // S = uTilde^T deltaTilde
        var (ofD, ofRho) = equations.Backward(update, update.deltaTilde.to_type(ScalarType.Float64).mm(G.t()),
            update.uTilde.to_type(ScalarType.Float64).mm(G));
        Close(expected[0].to_type(ScalarType.Float64), ofD, 1e-5);
        Assert.Equal(expected[1].item<double>(), ofRho, 5);
    }

    [Theory]
    [InlineData(3, 2)]
    [InlineData(3, 30)]
    [InlineData(20, 2)] // more keys than in-features
    [InlineData(20, 30)]
    public void PreservedKeysInLowRank_AreTheDenseFormula(int T, int preserved)
    {
        var (K, K0, D) = (Draw(T, 7), Draw(preserved, 7), Draw(T, 4));
        var update = new LeastSquares(K, 0.5, Sketch(K0), beta: 0.8).Update(D);
        Assert.Equal(Math.Min(T, 7), update.Rank);
        Close(Dense(K, D, tensor(0.5), K0, beta: 0.8), -update.ToDense().t().to_type(ScalarType.Float64), 1e-6);
    }

    [Fact]
    public void PreservedKeys_AreMovedLess_TheMoreTheyCount_AndOthersStillAreAsWished()
    {
        var (K, K0, D) = (Draw(3, 40), Draw(10, 40), Draw(3, 4));
        float Moved(LowRankUpdate update, Tensor keys) => update.Of(keys).norm().item<float>();
        var (none, some, much) = (new LeastSquares(K, 0.1).Update(D), new LeastSquares(K, 0.1, Sketch(K0)).Update(D),
            new LeastSquares(K, 0.1, Sketch(K0), beta: 1e4).Update(D));
        Assert.True(Moved(some, K0) < 0.5 * Moved(none, K0), $"{Moved(none, K0)} to {Moved(some, K0)}");
        Assert.True(Moved(much, K0) < 0.01 * Moved(none, K0), $"{Moved(none, K0)} to {Moved(much, K0)}");
        Assert.True((much.Of(K) - D).norm().item<float>() < 0.1 * D.norm().item<float>());
    }

    [Fact]
    public void PreservedKeysInPortions_AreThoseOfAllAtOnce_AndTheirSecondMoment()
    {
        var K0 = cat([Draw(6, 9), Draw(40, 9)], 0);
        var (whole, parts) = (Sketch(K0), Sketch([.. K0.split(7)]));
        foreach (var keys in new[] { whole, parts })
        {
            Close(eye(9, dtype: ScalarType.Float64), keys.Q.to_type(ScalarType.Float64).mm(keys.Q.to_type(ScalarType.Float64).t()), 1e-6);
            Close(K0.t().mm(K0).Over(46).to_type(ScalarType.Float64), (keys.Q.t() * keys.Values).mm(keys.Q).to_type(ScalarType.Float64), 1e-6);
        }
        Assert.Equal(2, Sketch(Draw(2, 9)).Q.shape[0]); // no direction that no key has
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

    private static PreservedKeys Sketch(params Tensor[] portions)
    {
        using var sketch = new KeySketch();
        foreach (var portion in portions)
            sketch.Add(portion);
        return sketch.Keys();
    }

    /// <summary>(K^T K + lambda I)^-1 K^T D. [m, n] float64.</summary>
    private static Tensor Dense(Tensor K, Tensor D, double lambda) => Dense(K, D, tensor(lambda), zeros(0, K.shape[1]), 0);

    /// <summary>(K^T K + beta (T / T0) K0^T K0 + lambda I)^-1 K^T D.</summary>
    private static Tensor Dense(Tensor K, Tensor D, Tensor lambda, Tensor K0, double beta)
    {
        var (k, k0, d) = (K.to_type(ScalarType.Float64), K0.to_type(ScalarType.Float64), D.to_type(ScalarType.Float64));
        var A = k.t().mm(k).Plus(eye(k.shape[1], dtype: ScalarType.Float64) * lambda)
            .Plus(k0.t().mm(k0).Times(beta * K.shape[0] / Math.Max(1, K0.shape[0])));
        return k.t().mm(d).cholesky_solve(linalg.cholesky(A));
    }

    private static void Close(Tensor expected, Tensor actual, double relative)
    {
        Assert.Equal(expected.shape, actual.shape);
        var difference = (expected - actual).to_type(ScalarType.Float64).norm().item<double>();
        Assert.True(difference <= relative * expected.to_type(ScalarType.Float64).norm().item<double>(), $"differs by {difference}");
    }
}
