using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

public class TorchRuntimeTests
{
    [Fact]
    public void Threads_AreAsSet()
    {
        var before = get_num_threads();
        set_num_threads(1);
        Assert.Equal(1, get_num_threads());
        set_num_threads(before);
        Assert.Equal(before, get_num_threads());
    }
}
