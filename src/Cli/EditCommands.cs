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
        var (cluster, prompt, target) =
            (new ClusterOptions(), Prompt(), new Argument<string>("target") { Description = "the answer from now on" });
        var maxDrawdown = new Option<double?>("--max-drawdown")
        {
            Description =
            "refuse the edit when it costs more than this fraction of the probes: those of probes.tsv in the model's directory, a question, a tab and its answer a line"
        }.Within(0, 1);
        var budget = new BudgetOptions("the edit");
        var confidence = new Option<double>("--confidence")
        {
            DefaultValueFactory = _ => new EditOptions().Confidence!.Value,
            Description = "make the edit as strong as it takes to give the target this probability"
        }.Within(0, 1);
        var ownStep = new Option<bool>("--own-step") { Description = "make the edit with the editor's own step, as in the paper" };
        var requireSuccess = new Option<bool>("--require-success")
        {
            Description =
            "refuse the edit when the target is not the answer afterwards"
        };
        var key = new Option<string?>("--key") { Description = "idempotency key: the same key twice edits once" };
        var scope = Scope("make the edit visible only to requests that name this scope");
        var dryRun = new Option<bool>("--dry-run") { Description = "show what the edit would change, and do not make it" };
        var command = new Command("edit", "Change what the model answers") { prompt, target, maxDrawdown, confidence, ownStep,
            requireSuccess, key, scope, dryRun };
        foreach (var option in budget.All)
            command.Options.Add(option);
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var total = budget.Of(parsed);
            var options = new EditOptions
            {
                MaxDrawdown = parsed.GetValue(maxDrawdown),
                MaxTotalDrawdown = total?.MaxTotalDrawdown,
                MaxTotalKl = total?.MaxTotalKl,
                Confidence = parsed.GetValue(ownStep) ? null : parsed.GetValue(confidence),
                RequireSuccess = parsed.GetValue(requireSuccess),
                IdempotencyKey = parsed.GetValue(key),
                Author = Environment.UserName,
                Scope = parsed.GetValue(scope),
            };
            if (parsed.GetValue(dryRun))
                Show(await opened.PreviewAsync(parsed.GetRequiredValue(prompt), parsed.GetRequiredValue(target), options, cancellation));
            else
                Show(await opened.EditAsync(parsed.GetRequiredValue(prompt), parsed.GetRequiredValue(target), options, cancellation));
            cluster.SayType(parsed);
        });
        return command;
    }

    public static Command Ask()
    {
        var (cluster, prompt) = (new ClusterOptions(), Prompt());
        var most = new Option<int>("--max-tokens") { DefaultValueFactory = _ => 32, Description = "most tokens of the answer" }.Within(1);
        var temperature = new Option<double>("--temperature") { Description = "0: always the most likely token" }.Within(0);
        var topK = new Option<int>("--top-k") { Description = "draw among this many tokens; 0: all" }.Within(0);
        var topP = new Option<double>("--top-p")
        {
            DefaultValueFactory = _ => 1,
            Description = "draw among the tokens that make up this probability"
        }.MoreThan(0, 1);
        var seed = new Option<int>("--seed") { Description = "of the draws" }.Within(int.MinValue, int.MaxValue);
        var scope = Scope("ask with this scope's edits beside those for everybody");
        var command = new Command("ask", "Ask the model") { prompt, most, temperature, topK, topP, seed, scope };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var answer = await opened.AskAsync(parsed.GetRequiredValue(prompt), new(parsed.GetValue(most), parsed.GetValue(temperature),
                parsed.GetValue(topK), parsed.GetValue(topP), parsed.GetValue(seed), parsed.GetValue(scope)), cancellation);
            Console.Out.WriteLine(Say.Visible(answer.Text, withLines: true)); // not wrapped: it may be read by a program
        });
        return command;
    }

    public static Command Revert()
    {
        var (cluster, edit) = (new ClusterOptions(),
            new Argument<long>("edit") { Description = "number of the edit, as in the ledger" }.Within(1));
        var recompute = new Option<bool>("--recompute")
        {
            Description =
            "compute the later edits anew, as if this one had never been made; without it they stay as they were computed"
        };
        var command = new Command("revert", "Take an edit back") { edit, recompute };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var receipt = await opened.RevertAsync(new(parsed.GetValue(edit)), parsed.GetValue(recompute) ? RevertMode.Recompute
                : RevertMode.Remove, Environment.UserName, cancellation);
            Say.Line($"Edit {receipt.Id} is taken back{(receipt.Recomputed > 0 ? $", {receipt.Recomputed} later ones were computed anew" : "")}; the model is at version {receipt.Version}.");
        });
        return command;
    }

    public static Command Consolidate()
    {
        var (cluster, defaults) = (new ClusterOptions(), new ConsolidateOptions());
        var scope = new Option<string?>("--scope") { Description = "the edits of this scope; without it those for everybody" };
        var seconds = new Option<double>("--max-seconds")
        {
            Description = "the search takes at most so long",
            DefaultValueFactory = _ => defaults.MaxTime.TotalSeconds
        }.MoreThan(0);
        var share = new Option<double>("--share")
        {
            Description = "part of the time in which it computes, up to 1; the rest is left to edits and answers",
            DefaultValueFactory = _ => defaults.Share
        }.MoreThan(0);
        var rank = new Option<int>("--max-rank")
        {
            Description = "rows of a weight's consolidated factors, at most",
            DefaultValueFactory = _ => defaults.MaxRank
        }.Within(1);
        var without = new Option<long[]>("--without")
        {
            Description = "edits that are taken back in the same step; the others are fitted without them",
            AllowMultipleArgumentsPerToken = true,
        };
        var command = new Command("consolidate", "Put one update, fitted anew, in the place of those of all edits in force")
            { scope, seconds, share, rank, without };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var receipt = await opened.ConsolidateAsync(new()
            {
                Scope = parsed.GetValue(scope),
                MaxTime = TimeSpan.FromSeconds(Math.Min(parsed.GetValue(seconds), TimeSpan.FromDays(1).TotalSeconds)),
                Share = parsed.GetValue(share),
                MaxRank = parsed.GetValue(rank),
                Author = Environment.UserName,
                Without = [.. (parsed.GetValue(without) ?? []).Select(id => new EditId(id))],
            }, cancellation);
            var (edits, before, after, rows, bytes) = receipt.Consolidated;
            var table = new Table().Border(TableBorder.Simple).AddColumns("", "before", "consolidated");
            void Row(string name, double? was, double? now, string format) => table.AddRow(name,
                was?.ToString(format, CultureInfo.InvariantCulture) ?? "not measured",
                now?.ToString(format, CultureInfo.InvariantCulture) ?? "not measured");
            Row("prompts that are answered with their targets", before.Success, after.Success, "P1");
            Row("the same of their rewordings", before.Rewordings, after.Rewordings, "P1");
            Row("probes lost, of those that the base model answers", before.TotalDrawdown, after.TotalDrawdown, "P1");
            Row("KL divergence from the base model on them, nats a token", before.TotalKl, after.TotalKl, "0.#####");
            AnsiConsole.Write(table);
            Say.Line($"Consolidation {receipt.Id} stands in the place of {edits.Count} edit(s): {receipt.Steps} steps in {receipt.Time.TotalSeconds:0.0} s, {bytes / 1e3:0.0} kB, rank {rows}. mend revert {receipt.Id} takes it back. The model is at version {receipt.Version}.");
        });
        return command;
    }

    public static Command Ledger()
    {
        var cluster = new ClusterOptions();
        var command = new Command("ledger",
            "List everything that was done to the model") { Migrate(PostgresSchema.Ledger,
            "Make the tables of ledgers in PostgreSQL, or bring them up to date") };
        cluster.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            await using var opened = await cluster.OpenAsync(parsed, cancellation);
            var table = new Table().Border(TableBorder.Simple)
                .AddColumns("version", "time", "what", "prompt", "target", "scope", "success", "drawdown", "size", "by");
            foreach (var entry in await opened.LedgerAsync(cancellation))
                table.AddRow(entry.Version.ToString(), entry.Time.ToString("u", CultureInfo.InvariantCulture),
                    entry.Kind switch
                    {
                        LedgerKind.Edit => "edit",
                        LedgerKind.Revert => $"revert of {entry.Edit}",
                        _ => $"consolidation of {entry.Consolidated?.Edits.Count} edits",
                    }, Say.Cell(entry.Prompt ?? ""),
                    Say.Cell(entry.Target ?? ""),
                    Say.Cell(entry.Scope ?? ""),
                    entry.Figures is { } figures ? figures.Success ? "yes" : "no" : "", entry.Figures is { } measured
                        ? measured.Drawdown?.ToString("0.###", CultureInfo.InvariantCulture) ?? "not measured" : "",
                    entry.Figures is { Bytes: > 0 } size ? $"{size.Bytes / 1e3:0.0} kB, rank {size.Rank}" : "",
                    Say.Cell(entry.Author ?? ""));
            AnsiConsole.Write(table);
        });
        return command;
    }

    public static Command Migrate(PostgresSchema schema, string description)
    {
        var postgres = new Option<string>("--postgres")
        {
            Description =
            "connection string: Host=...;Database=...;Username=...; the password is best left to PGPASSWORD or a password file",
            Required = true
        };
        var command = new Command("migrate", description) { postgres };
        command.SetAction(async (parsed, cancellation) =>
        {
            var (from, to) = await schema.MigrateAsync(parsed.GetRequiredValue(postgres), cancellation);
            Say.Line(from == to ? $"The tables are of version {to} already."
                : (FormattableString)$"The tables went from version {from} to {to}.");
        });
        return command;
    }

    /// <summary>The figures and times of an edit.</summary>
    public static void Show(EditReceipt receipt)
    {
        var times = receipt.Times;
        Show($"Edit {receipt.Id}:", receipt.Figures);
        if (times == EditTimes.Zero)
            Say.Line($"It was made by an earlier request with the same key; nothing was done now.");
        Say.Line($"[grey]forward {times.Forward.TotalMilliseconds:0.0} ms, backward {times.Backward.TotalMilliseconds:0.0}, editor {times.Editor.TotalMilliseconds:0.0}, try {times.Try.TotalMilliseconds:0.0}, append {times.Append.TotalMilliseconds:0.0}, broadcast {times.Broadcast.TotalMilliseconds:0.0}; in all {times.Total.TotalMilliseconds:0.0} ms[/]");
    }

    /// <summary>What an edit would do.</summary>
    private static void Show(EditPreview preview)
    {
        Say.Line($"Nothing was changed; the model stays at version {preview.Version}.");
        if (preview.InForce is { } inForce)
            Say.Line($"Edit {inForce} says the same and is in force already; this one would come on top of it.");
        Show(preview.Refused is null ? "The edit:" : $"The edit would be refused: {preview.Refused} It:", preview.Figures);
        Say.Line($"Answer: {preview.AnswerBefore} -> [bold]{preview.AnswerAfter}[/]");
        foreach (var probe in preview.Probes)
            Say.Line($"Probe \"{probe.Question}\", {probe.Answer}: {(probe.RightBefore ? "right" : "wrong")} -> {(probe.RightAfter ? "right" : "wrong")}, probability {probe.ProbabilityBefore:0.000} -> {probe.ProbabilityAfter:0.000}");
        foreach (var weight in preview.Weights)
            Say.Line($"[grey]{weight.Weight}: rank {weight.Rank}, norm {weight.Norm:0.000}[/]");
    }

    private static void Show(string what, EditFigures figures)
    {
        var strength = figures.Strength is { } times ? string.Create(CultureInfo.InvariantCulture, $" with {times} times the editor's step")
            : "";
        var cost = figures is { Drawdown: { } drawdown, Kl: { } kl }
            ? string.Create(CultureInfo.InvariantCulture, $"drawdown {drawdown:0.000} and KL {kl:0.0000} on {figures.Probes} probes")
            : "drawdown not measured, for there are no probes";
        if (figures is { TotalDrawdown: { } total, TotalKl: { } totalKl })
            cost += string.Create(CultureInfo.InvariantCulture, $"; of all edits together drawdown {total:0.000} and KL {totalKl:0.0000}")
                + (figures.BudgetLeft is { } left ? string.Create(CultureInfo.InvariantCulture, $", which leaves {left:P0} of the budget") : "");
        if (figures.Together is { } together)
            cost += $", of {together} edits that were made together";
        Say.Line($"{what} success [bold]{(figures.Success ? "yes" : "no")}[/]{strength}, probability of the target {figures.ProbabilityBefore:0.000} -> {figures.ProbabilityAfter:0.000}, {cost}; rank {figures.Rank}, {figures.Bytes / 1e3:0.0} kB.");
    }

    private static Option<string?> Scope(string description) => new("--scope") { Description = description };

    private static Argument<string> Prompt() => new("prompt") { Description = "the question" };
}
