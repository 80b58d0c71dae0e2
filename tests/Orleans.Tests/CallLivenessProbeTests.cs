using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.Time.Testing;

namespace MendCluster.Orleans.Tests;

public class CallLivenessProbeTests
{
    private readonly FakeTimeProvider _time = new();
    private bool _underWay = true;

    [Fact]
    public async Task AnAnswer_ComesThrough() => Assert.Equal(5, await Calls().RunAsync(() => Task.FromResult(5)));

    [Fact]
    public async Task AFailure_ComesThroughAsWhatItIs() =>
        await Assert.ThrowsAsync<MendException>(() =>
        Calls().RunAsync(() => Task.FromException<int>(new MendException(MendError.TooLong, "", ""))));

    [Fact]
    public async Task ACallThatIsLost_IsGivenUp()
    {
        _underWay = false;
        await Assert.ThrowsAsync<TimeoutException>(() => _time.RunAsync(Calls().RunAsync(() => new TaskCompletionSource<int>().Task)));
    }

    [Fact]
    public async Task ALongCall_IsWaitedFor_AlsoOverASilentMoment()
    {
        var asked = 0;
        var answer = new TaskCompletionSource<int>();
        var calls = new CallLivenessProbe(_ =>
        {
            if (++asked == 4)
                answer.SetResult(7);
            return asked == 1 ? Task.FromException<bool>(new TimeoutException()) : Task.FromResult(asked != 2);
        }, _time);
        Assert.Equal(7, await _time.RunAsync(calls.RunAsync(() => answer.Task)));
    }

    private CallLivenessProbe Calls() => new(_ => Task.FromResult(_underWay), _time);
}
