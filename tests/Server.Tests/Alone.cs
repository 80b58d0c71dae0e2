namespace MendCluster.Server.Tests;

/// <summary>Tests that measure their process: no other server is in it meanwhile.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
