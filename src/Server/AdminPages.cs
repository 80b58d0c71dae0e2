using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace MendCluster.Server;

/// <summary>What a program adds to its server, for those with the right admin. It is no part of the API.</summary>
/// <param name="Add">What it needs.</param>
/// <param name="Map">Where it is.</param>
public sealed record AdminPages(Action<IServiceCollection> Add, Action<IEndpointRouteBuilder> Map);
