using MendCluster.Contracts;
using Microsoft.Extensions.DependencyInjection;

namespace MendCluster.Client;

/// <summary>Where a program's server is.</summary>
public sealed record MendClusterOptions
{
    public required Uri Address { get; init; }

    /// <summary>An API key, or a token; null: the server asks for none.</summary>
    public string? Key { get; init; }

    /// <summary>See <see cref="HttpCluster.RetryTimeout"/>.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan RetryTimeout { get; init; } = TimeSpan.FromSeconds(30);
}

public static class ServiceCollectionExtensions
{
    /// <summary>Gives a program's services <see cref="IMendCluster"/>: a server over HTTP.</summary>
    /// <example>
    /// <code>
    /// services.AddMendCluster(new() { Address = new("http://127.0.0.1:8080"), Key = key });
    /// </code>
    /// </example>
    public static IServiceCollection AddMendCluster(this IServiceCollection services, MendClusterOptions options) =>
        services.AddSingleton<IMendCluster>(_ => new HttpCluster(options.Address, options.Key) { RetryTimeout = options.RetryTimeout });
}
