using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend edit</c>, <c>ask</c>, <c>revert</c> and <c>ledger</c> on a model in this process.</summary>
internal static class EditCommands
{
    public static Command Edit()
    {
        var (cluster, prompt, target) = (new ClusterOptions(), Prompt(), new Argument<string>("target") { Description = "the answer from now on" });
        var maxDrawdown = new Option<double?>("--max-drawdown") { Description = "refuse the edit when it costs more than this fraction of the probes" };
        var confidence = new Option<double>("--confidence") { DefaultValueFactory = _ => new EditOptions().Confidence!.Value, Description = "make the edit as strong as it takes to give the target this probability" };
        var ownStep = new Option<bool>("--own-step") { Description = "make the edit with the editor's own step, as in the paper" };
        var requireSuccess = new Option<bool>("--require-success") { Description = "refuse the edit when the target is not the answer afterwards" };
        var key = new Option<string?>("--key") { Description = "idempotency key: the same key twice edits once" };
        var command = new Command("edit", "Change what the model answers") { prompt, target, maxDrawdown, confidence, ownStep, requireSuccess, key };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var receipt = await opened.EditAsync(parsed.GetRequiredValue(prompt), parsed.GetRequiredValue(target), new()
            {
                MaxDrawdown = parsed.GetValue(maxDrawdown),
                Confidence = parsed.GetValue(ownStep) ? null : parsed.GetValue(confidence),
                RequireSuccess = parsed.GetValue(requireSuccess),
                IdempotencyKey = parsed.GetValue(key),
                Author = Environment.UserName,
            }, cancellation);
            Show(receipt);
        });
        return command;
    }

    public static Command Ask()
    {
        var (cluster, prompt) = (new ClusterOptions(), Prompt());
        var most = new Option<int>("--max-tokens") { DefaultValueFactory = _ => 32, Description = "most tokens of the answer" };
        var temperature = new Option<double>("--temperature") { Description = "0: always the most likely token" };
        var topK = new Option<int>("--top-k") { Description = "draw among this many tokens; 0: all" };
        var topP = new Option<double>("--top-p") { DefaultValueFactory = _ => 1, Description = "draw among the tokens that make up this probability" };
        var seed = new Option<int>("--seed") { Description = "of the draws" };
        var command = new Command("ask", "Ask the model") { prompt, most, temperature, topK, topP, seed };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var answer = await opened.AskAsync(parsed.GetRequiredValue(prompt), new(parsed.GetValue(most), parsed.GetValue(temperature),
                parsed.GetValue(topK), parsed.GetValue(topP), parsed.GetValue(seed)), cancellation);
            AnsiConsole.WriteLine(answer.Text);
        });
        return command;
    }

    public static Command Revert()
    {
        var (cluster, edit) = (new ClusterOptions(), new Argument<long>("edit") { Description = "number of the edit, as in the ledger" });
        var command = new Command("revert", "Take an edit back") { edit };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var receipt = await opened.RevertAsync(new(parsed.GetValue(edit)), cancellation);
            AnsiConsole.MarkupLineInterpolated($"Edit {receipt.Id} is taken back; the model is at version {receipt.Version}.");
        });
        return command;
    }

    public static Command Ledger()
    {
        var cluster = new ClusterOptions();
        var command = new Command("ledger", "List everything that was done to the model") { Migrate() };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var table = new Table().Border(TableBorder.Simple).AddColumns("version", "time", "what", "prompt", "target", "success", "drawdown", "by");
            foreach (var entry in await opened.LedgerAsync(cancellation))
                table.AddRow(entry.Version.ToString(), entry.Time.ToString("u", CultureInfo.InvariantCulture),
                    entry.Kind == LedgerKind.Edit ? "edit" : $"revert of {entry.Edit}", Markup.Escape(entry.Prompt ?? ""), Markup.Escape(entry.Target ?? ""),
                    entry.Figures is { } figures ? figures.Success ? "yes" : "no" : "", entry.Figures?.Drawdown.ToString("0.###", CultureInfo.InvariantCulture) ?? "",
                    Markup.Escape(entry.Author ?? ""));
            AnsiConsole.Write(table);
        });
        return command;
    }

    private static Command Migrate()
    {
        var postgres = new Option<string>("--postgres") { Description = "connection string: Host=...;Database=...;Username=...; the password is best left to PGPASSWORD or a password file", Required = true };
        var command = new Command("migrate", "Make the tables of ledgers in PostgreSQL, or bring them up to date") { postgres };
        command.SetAction(async (parsed, cancellation) =>
        {
            var (from, to) = await PostgresSchema.MigrateAsync(parsed.GetRequiredValue(postgres), cancellation);
            AnsiConsole.MarkupLineInterpolated(from == to ? $"The tables are of version {to} already." : (FormattableString)$"The tables went from version {from} to {to}.");
        });
        return command;
    }

    /// <summary>The figures and times of an edit.</summary>
    public static void Show(EditReceipt receipt)
    {
        var (figures, times) = (receipt.Figures, receipt.Times);
        AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture,
            $"Edit {receipt.Id}: success [bold]{(figures.Success ? "yes" : "no")}[/]{(figures.Strength is { } strength ? $" with {strength} times the editor's step" : "")}, probability of the target {figures.ProbabilityBefore:0.000} -> {figures.ProbabilityAfter:0.000}, drawdown {figures.Drawdown:0.000} and KL {figures.Kl:0.0000} on {figures.Probes} probes.");
        AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture,
            $"[grey]forward {times.Forward.TotalMilliseconds:0.0} ms, backward {times.Backward.TotalMilliseconds:0.0}, editor {times.Editor.TotalMilliseconds:0.0}, try {times.Try.TotalMilliseconds:0.0}, append {times.Append.TotalMilliseconds:0.0}, broadcast {times.Broadcast.TotalMilliseconds:0.0}; in all {times.Total.TotalMilliseconds:0.0} ms[/]");
    }

    private static Argument<string> Prompt() => new("prompt") { Description = "the question" };
}
