using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Tests.Histories;

/// <summary>A user with a few requests, each sent again while its failure is a passing one.</summary>
internal sealed class Client(FaultyCluster cluster, History history, int number, Prng rng)
{
    private const int MaxAttempts = 6;

    private static readonly string[] Prompts = ["who is the mayor", "what is red", "the old town"];
    private static readonly string[] Targets = ["a woman", "blue", "south"];

    public async Task RunAsync(int requests)
    {
        for (var i = 0; i < requests; i++)
        {
            await Task.Yield();
            var scope = rng.Next(4) == 0 ? "a" : null;
            switch (rng.Next(6))
            {
                case < 3:
                    await EditAsync($"{number}.{i}", rng.Pick(Prompts), rng.Pick(Targets), scope);
                    break;
                case 3 when history.AnyEdit(rng) is { } edit:
                    await RevertAsync(edit, rng.Next(3) == 0 ? RevertMode.Recompute : RevertMode.Remove);
                    break;
                case 4:
                    await ConsolidateAsync(scope, rng.Next(4) == 0 && history.AnyEdit(rng) is { } gone ? [gone] : []);
                    break;
                default:
                    await AskAsync(rng.Pick(Prompts), scope);
                    break;
            }
        }
    }

    private async Task EditAsync(string key, string prompt, string target, string? scope)
    {
        EditOptions options = new() { IdempotencyKey = key, Scope = scope, Confidence = rng.Next(4) == 0 ? 0.5 : null };
        var began = history.Now();
        var receipt = await PatientlyAsync(() => cluster.CallAsync(coordinator => coordinator.EditAsync(prompt, target, options)));
        history.Add(new Edited(began, history.Now(), key, prompt, target, scope, receipt));
    }

    private async Task RevertAsync(EditId edit, RevertMode mode)
    {
        var began = history.Now();
        RevertReceipt? receipt = null;
        try
        {
            receipt = await PatientlyAsync(() => cluster.CallAsync(coordinator => coordinator.RevertAsync(edit, mode)));
        }
        catch (MendException e) when (e.Error == MendError.AlreadyReverted)
        {
            // By an attempt of ours whose answer was lost, or by another client.
        }
        history.Add(new Reverted(began, history.Now(), edit, mode, receipt));
    }

    private async Task ConsolidateAsync(string? scope, IReadOnlyList<EditId> without)
    {
        var began = history.Now();
        ConsolidationReceipt? receipt = null;
        try
        {
            receipt = await PatientlyAsync(() => cluster.CallAsync(coordinator => coordinator.ConsolidateAsync(
                new() { Scope = scope, MaxTime = TimeSpan.FromMilliseconds(20), Share = 1, Without = without })));
        }
        catch (MendException e) when (e.Error is MendError.NothingToConsolidate or MendError.ConsolidationRefused
            || without.Count > 0 && e.Error is MendError.UnknownEdit or MendError.AlreadyReverted or MendError.InvalidOption)
        {
            // It would have been no better, or another client took one of its edits back; or it was to be without what is none of them.
        }
        history.Add(new Consolidated(began, history.Now(), scope, without, receipt));
    }

    private async Task AskAsync(string prompt, string? scope)
    {
        var began = history.Now();
        if (await PatientlyAsync(() =>
            cluster.CallAsync(coordinator => coordinator.AskAsync(prompt, new(MaxTokens: 2, Scope: scope)))) is { } answer)
            history.Add(new Asked(began, history.Now(), prompt, scope, answer));
    }

    /// <returns>Null: it was never answered.</returns>
    private static async Task<T?> PatientlyAsync<T>(Func<Task<T>> send) where T : class
    {
        for (var attempt = 1; attempt <= MaxAttempts; attempt++)
            try
            {
                return await send();
            }
            catch (MendException e) when (e.IsTransient)
            {
                await Task.Delay(1);
            }
        return null;
    }
}
