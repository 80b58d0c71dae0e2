using System.Diagnostics;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>How far a training is and what it has learned: a bar on a terminal, a line for every twentieth elsewhere, and an early one that tells the time.</summary>
internal static class Bar
{
    private const int Lines = 20;

    /// <summary>The report from which on the time that is left can be told.</summary>
    private const int Timed = 6;

    /// <summary>Told how much is done, of how much, and what is to be said of it. On one thread at a time.</summary>
    public delegate void Report(double done, double all, string text);

    public static async Task ShowAsync(string what, Func<Report, Task> work)
    {
        if (Console.IsOutputRedirected)
        {
            var (said, reports, first, clock) = (-1.0, 0, 0.0, new Stopwatch());
            await work((done, all, text) =>
            {
                if (reports++ == 0)
                {
                    first = done;
                    clock.Start();
                }
                if (Math.Floor(Lines * done / all) is var part && part == said && reports != Timed)
                    return;
                said = part;
                var left = done > first && done < all ? Math.Ceiling(clock.Elapsed.TotalSeconds * (all - done) / (done - first)) : 0;
                Say.Line($"{what}: {done:0} of {all:0}, {text}{(left > 0 ? $", {TimeSpan.FromSeconds(left)} left at most" : "")}");
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
