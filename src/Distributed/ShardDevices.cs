using MendCluster.Engine.Torch;

namespace MendCluster.Distributed;

/// <summary>Which device a shard has.</summary>
public static class ShardDevices
{
    /// <summary>Of a list such as <c>cuda:0,cuda:1</c>, which shards have in turn.</summary>
    /// <param name="shard">Its number, from 0.</param>
    /// <exception cref="Contracts.MendException">A name that is no device's.</exception>
    public static string Of(string list, int shard)
    {
        var names = Devices.Names(list);
        return names[shard % names.Count];
    }
}
