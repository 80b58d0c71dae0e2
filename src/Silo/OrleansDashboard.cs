using MendCluster.Server;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Dashboard;

namespace MendCluster.Silo;

/// <summary>Orleans' dashboard as pages of a silo's server.</summary>
internal static class OrleansDashboard
{
    private const string Place = "/orleans";

    public static ISiloBuilder AddOrleansDashboard(this ISiloBuilder silo) => silo.AddDashboard(HideLog);

    /// <param name="grains">Of the silo; they can be spoken to once its cluster is there.</param>
    public static AdminPages Pages(ServedCluster served, Func<IGrainFactory> grains) => new(
        services =>
        {
            new Client(services).AddDashboard(HideLog);
            services.AddSingleton(_ =>
            {
                served.Required();
                return grains();
            });
        },
        pages => pages.MapOrleansDashboard(Place));

    private static void HideLog(DashboardOptions options) => options.HideTrace = true;

    /// <summary>The server's services are not the silo's: to the dashboard the server is a client.</summary>
    private sealed class Client(IServiceCollection services) : IClientBuilder
    {
        public IServiceCollection Services => services;

        public IConfiguration Configuration { get; } = new ConfigurationManager();
    }
}
