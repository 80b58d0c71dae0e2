using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace MendCluster.Orleans.Tests;

public class RequestRetryTests
{
    private static readonly TimeSpan Total = TimeSpan.FromSeconds(30);

    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task WhatMayPass_IsMetAgain_AfterGrowingPauses_UntilTheTimeIsUp()
    {
        var attempts = await AttemptsAsync(MendError.ShardLost);
        var pauses = attempts.Zip(attempts.Skip(1), (one, next) => next - one).ToList();
        Assert.InRange(pauses[0], TimeSpan.Zero, TimeSpan.FromMilliseconds(500));
        Assert.All(pauses, pause => Assert.InRange(pause, TimeSpan.Zero, TimeSpan.FromSeconds(2.1)));
        Assert.InRange(attempts[^1], Total, Total + TimeSpan.FromSeconds(2.1));
        Assert.InRange(attempts.Count, 15, 40);
    }

    [Fact]
    public async Task ClientsThatMetTheSameFault_ComeBackAtDifferentTimes() =>
        Assert.NotEqual(await AttemptsAsync(MendError.CoordinatorLost), await AttemptsAsync(MendError.CoordinatorLost));

    [Fact]
    public async Task WhatStays_IsMetOnce() => Assert.Single(await AttemptsAsync(MendError.DrawdownExceeded));

    [Fact]
    public async Task ARequestThatCameFurther_HasItsWholeTimeAgain()
    {
        var (attempts, further) = (0, 0L);
        var request = new RequestRetry(_time, NullLogger.Instance).RunAsync<int>(window =>
        {
            if (++attempts == 10)
            {
                window.CameFurther();
                further = _time.GetTimestamp();
            }
            throw new MendException(MendError.CoordinatorLost, "", "");
        }, Total, default);
        await Assert.ThrowsAsync<MendException>(() => _time.RunAsync(request));
        Assert.InRange(_time.GetElapsedTime(further), Total, Total + TimeSpan.FromSeconds(2.3));
    }

    [Fact]
    public async Task AnAnswerAfterFailures_IsReturned()
    {
        var attempts = 0;
        Assert.Equal(7, await _time.RunAsync(new RequestRetry(_time, NullLogger.Instance).RunAsync(
            _ => ++attempts < 4 ? throw new MendException(MendError.LedgerUnreachable, "", "") : Task.FromResult(7), Total, default)));
        Assert.Equal(4, attempts);
    }

    [Fact]
    public async Task ARequestThatIsCancelledInAPause_EndsAtOnce()
    {
        using var cancelled = new CancellationTokenSource();
        var request = new RequestRetry(_time, NullLogger.Instance)
            .RunAsync<int>(_ => throw new MendException(MendError.ShardLost, "", ""), Total, cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => request); // no time passes
    }

    /// <summary>When each attempt was made, of a request that always meets this error.</summary>
    private async Task<List<TimeSpan>> AttemptsAsync(MendError error)
    {
        var start = _time.GetTimestamp();
        List<TimeSpan> attempts = [];
        var request = new RequestRetry(_time, NullLogger.Instance).RunAsync<int>(_ =>
        {
            attempts.Add(_time.GetElapsedTime(start));
            throw new MendException(error, "", "");
        }, Total, default);
        Assert.Equal(error, (await Assert.ThrowsAsync<MendException>(() => _time.RunAsync(request))).Error);
        return attempts;
    }
}

internal static class FakeTime
{
    /// <summary>Lets time pass until the work has ended.</summary>
    public static async Task<T> RunAsync<T>(this FakeTimeProvider time, Task<T> work)
    {
        for (; !work.IsCompleted; await Task.Delay(1))
            time.Advance(TimeSpan.FromMilliseconds(100));
        return await work;
    }
}
