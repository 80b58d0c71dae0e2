using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>How far a training is and what it has learned: a bar on a terminal, a line for every twentieth elsewhere.</summary>
internal static class Bar
{
    private const int Lines = 20;

    /// <summary>Told how much is done, of how much, and what is to be said of it. On one thread at a time.</summary>
    public delegate void Report(double done, double all, string text);

    public static async Task ShowAsync(string what, Func<Report, Task> work)
    {
        if (Console.IsOutputRedirected)
        {
            var said = -1.0;
            await work((done, all, text) =>
            {
                if (Math.Floor(Lines * done / all) is var part && part == said)
                    return;
                said = part;
                Say.Line($"{what}: {done:0} of {all:0}, {text}");
            });
            return;
        }
        await AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(progress =>
        {
            var task = progress.AddTask(Say.Cell(what));
            return work((done, all, text) => (task.MaxValue, task.Value, task.Description) = (all, done, Say.Cell($"{what}: {text}")));
        });
    }
}
