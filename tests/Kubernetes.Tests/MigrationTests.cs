using k8s.Models;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>The migration's Job, as it is rendered, on a real PostgreSQL.</summary>
public sealed class MigrationTests : IAsyncLifetime
{
    private PostgresInstance _server = null!;

    public async Task InitializeAsync() => _server = await PostgresInstance.StartNewAsync();

    public async Task DisposeAsync() => await _server.DisposeAsync();

    [ToolFact("helm")]
    public async Task TwoReleasesOnOneDatabase_HaveALedgerEach_AndTheMigrationMayRunAgain()
    {
        foreach (var release in new[] { "one", "two", "one" })
            foreach (var container in Chart.Read(Chart.RenderBy("4", "minimal", release, Chart.Namespace)).OfType<V1Job>()
                .Single().Spec.Template.Spec.Containers)
            {
                var variables = container.Env.ToDictionary(variable => variable.Name, _ => _server.Connection());
                var (code, output) = await MendProgram.RunAsync(_server.Folder,
                    [.. container.Command.Skip(2), .. container.Args.Select(argument => PodEnvironment.Expand(argument, variables))]);
                Assert.True(code == 0, output);
            }
        Assert.Equal("models.one\nmodels.two",
            await _server.SqlAsync("select schemaname from pg_tables where tablename = 'mend_record' order by 1"));
        Assert.Equal("public", await _server.SqlAsync("select schemaname from pg_tables where tablename = 'mend_silo'"));
    }
}
