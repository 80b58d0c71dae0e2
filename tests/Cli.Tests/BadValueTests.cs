using System.CommandLine;
using System.Globalization;
using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Cli.Tests;

/// <summary>Every command with a matrix of bad values: a command or an option that is added is in it by itself.</summary>
public sealed partial class BadValueTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static IReadOnlyList<(string Name, Command Command)> Commands { get; } = [.. Leaves(CommandLine.Root(), "")];

    public static TheoryData<string> Names => [.. Commands.Select(entry => entry.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryNumber_IsInvariantAndInItsRange(string name)
    {
        var command = Commands.First(entry => entry.Name == name).Command;
        foreach (var symbol in command.Options.Cast<Symbol>().Concat(command.Arguments).Where(symbol => IsNumber(TypeOf(symbol))))
        {
            var range = Values.RangeOf(symbol);
            Assert.True(range is not null, $"{symbol.Name} of {name} has no range");
            var isReal = TypeOf(symbol) == typeof(double);
            List<string> bad = ["NaN", "∞", "Infinity", "-Infinity", "1e999", "x", "", " ", "0,001", "1,000", "1 000", "1_000", "0x10",
                "99999999999999999999999x"];
            if (!isReal)
                bad.AddRange(["0.5", "1e2", "99999999999999999999999"]);
            if (double.IsFinite(range.Least) && range.Least > int.MinValue)
                bad.Add(Text(range.Least - 1));
            if (range.Above)
                bad.Add(Text(range.Least));
            if (double.IsFinite(range.Most) && range.Most < int.MaxValue)
                bad.Add(Text(range.Most + 1));
            foreach (var value in bad)
                Assert.Contains(Errors(command, name, symbol, value), error => error.Contains(symbol.Name, StringComparison.Ordinal));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryChoice_IsOneOfItsNames(string name)
    {
        var command = Commands.First(entry => entry.Name == name).Command;
        foreach (var option in command.Options.Where(option => TypeOf(option).IsEnum))
            foreach (var value in new[] { "0", "1", "99", "-1", "nothing", "", "a,b" })
                Assert.Contains(Errors(command, name, option, value), error => error.Contains(option.Name, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryTextAndPath_HasSomethingInIt(string name)
    {
        var command = Commands.First(entry => entry.Name == name).Command;
        foreach (var option in command.Options.Where(option => !IsNumber(TypeOf(option)) && !TypeOf(option).IsEnum
            && TypeOf(option) != typeof(bool)))
            foreach (var value in new[] { "", "  " })
                Assert.Contains(Errors(command, name, option, value), error => error.Contains(option.Name, StringComparison.Ordinal));
    }

    /// <summary>Files that are not there, folders where a file is wanted, and texts that mean nothing.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public async Task EveryOtherBadValue_EndsInOneLineWithACode(string name)
    {
        var command = Commands.First(entry => entry.Name == name).Command;
        File.WriteAllText(_folder["file"], "not what you think");
        foreach (var option in command.Options.Where(option => IsPath(TypeOf(option)) || IsListOrPlace(option)))
            foreach (var value in option.Name is "--out" or "--docs" || (name, option.Name) is ("key", "--keys")
                ? [_folder["file"], _folder["file/below"], _folder[new string('n', 300)]]
                : new[] { _folder["nowhere"], _folder["file"], _folder["file/below"], _folder.Path, "nul\0", new string('n', 5000),
                    "postgres:nonsense", "\u0007,;[red]{0}" })
            {
                if (option.Name == "--trainings" && value == _folder.Path)
                    continue; // a folder like any other
                var before = Directory.EnumerateFileSystemEntries(_folder.Path, "*", SearchOption.AllDirectories).Count();
                var (code, output) = await RunAsync(Arguments(command, name, option, value));
                Assert.True(code == 1, $"{name} {option.Name} {value}: {code} {output}");
                var line = Assert.Single(output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
                Assert.True(Enum.TryParse<MendError>(Coded().Match(line).Groups["code"].Value, out _),
                    $"{name} {option.Name} {value}: {line}");
                Assert.Matches(@"[.?!] \S+ .*\.$", line); // what, then what to do
                Assert.DoesNotMatch(@"[\x00-\x08\x0b-\x1f]", line);
                Assert.True(Directory.EnumerateFileSystemEntries(_folder.Path, "*", SearchOption.AllDirectories).Count() == before,
                    $"{name} {option.Name} {value} left something behind");
            }
    }

    [Theory]
    [InlineData("ask")]
    [InlineData("edit", "x")]
    public async Task EveryPromptThatIsNone_IsRefused(string command, params string[] more)
    {
        foreach (var prompt in new[] { "", "  ", "\u00a0", "\n", "half \ud83d" })
        {
            var (code, output) = await RunAsync([command, prompt, .. more, "--ledger", _folder["ledger"]]);
            Assert.Equal(1, code);
            Assert.Matches("^(EmptyPrompt|InvalidText): ", output);
        }
    }

    [Theory]
    [InlineData("--rounds", "3")]
    [InlineData("--preserve", "known.tsv")]
    [InlineData("--sequential", "true")]
    public async Task WhatOnlyMalmenTakes_IsRefusedOfAnotherAlgorithmByName(string option, string value)
    {
        var (code, output) = await RunAsync(["train", "--model", _folder.Path, "--data", _folder["edits.tsv"], "--out", _folder["run"],
            option, value]);
        Assert.Equal(1, code);
        Assert.StartsWith($"InvalidOption: {option} was given", output, StringComparison.Ordinal);
    }

    /// <summary>Options that only go with others, or instead of them.</summary>
    [Theory]
    [InlineData("--model and --onnx", "import --out made")]
    [InlineData("--model and --onnx", "import --model folder --onnx file.onnx --out made")]
    [InlineData("--stages", "import --onnx file.onnx --stages 2 --out made")]
    [InlineData("--d-model", "pretrain --task fc --data folder --from folder --d-model 64 --out made")]
    [InlineData("--vocab", "pretrain --data file.tsv --from folder --vocab 300 --out made")]
    [InlineData("--facts", "data generate --task gen --facts file.tsv --out made")]
    [InlineData("--edited", "data generate --task qa --facts file.tsv --out made")]
    [InlineData("--edited", "data generate --task fc --facts file.tsv --edited capital --out made")]
    [InlineData("--family", "pretrain --task fc --family t5 --data folder --out made")]
    [InlineData("--tokenizer", "pretrain --task qa --tokenizer folder --data folder --out made")]
    [InlineData("--tokenizer", "pretrain --family gpt2 --tokenizer folder --vocab 300 --data file.tsv --out made")]
    [InlineData("--d-ff", "pretrain --family gpt2 --d-ff 64 --data file.tsv --out made")]
    [InlineData("--per-relation", "data generate --task fc --per-relation 3 --out made")]
    public async Task WhatDoesNotGoTogether_IsRefusedByName(string named, string line)
    {
        var (code, output) = await RunAsync([.. line.Split(' ').Select(word => word is "made" or "folder" ? _folder[word] : word)]);
        Assert.Equal(1, code);
        Assert.StartsWith("InvalidOption: ", output, StringComparison.Ordinal);
        Assert.Contains(named, output, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));
    }

    internal static IEnumerable<(string, Command)> Leaves(Command command, string path)
    {
        if (command.Action is not null)
            yield return (path.Trim(), command);
        foreach (var leaf in command.Subcommands.SelectMany(below => Leaves(below, $"{path} {below.Name}")))
            yield return leaf;
    }

    private static Type TypeOf(Symbol symbol)
    {
        var type = symbol is Option option ? option.ValueType : ((Argument)symbol).ValueType;
        return Nullable.GetUnderlyingType(type) ?? type;
    }

    private static bool IsNumber(Type type) => type.IsPrimitive && type != typeof(bool);

    private static bool IsPath(Type type) => typeof(FileSystemInfo).IsAssignableFrom(type.GetElementType() ?? type);

    /// <summary>Texts that cannot be anything.</summary>
    private static bool IsListOrPlace(Option option) =>
        option.Name is "--editable" or "--only" or "--editors" or "--gpu-memory" or "--cluster" or "--postgres" or "--device"
        || option is { Name: "--edits", ValueType: var type } && type == typeof(string);

    private static string Text(double number) => number.ToString("0.#", CultureInfo.InvariantCulture);

    private IReadOnlyList<string> Errors(Command command, string name, Symbol symbol, string value) =>
        [.. CommandLine.Root().Parse(Arguments(command, name, symbol, value)).Errors.Select(error => error.Message)];

    /// <summary>A command line that is right but for one value.</summary>
    private List<string> Arguments(Command command, string name, Symbol of, string value)
    {
        List<string> line = [.. name.Split(' ')];
        foreach (var argument in command.Arguments)
            line.Add(argument == of ? value : IsNumber(TypeOf(argument)) ? "1" : "what");
        if (of is Argument)
            line.Insert(name.Split(' ').Length, "--"); // a negative number is no option
        var demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");
        var given = new Dictionary<string, string>
        {
            ["--model"] = demo,
            ["--data"] = _folder["file"],
            ["--task"] = "qa",
            ["--postgres"] = "Host=/nowhere;Username=nobody;Timeout=1",
            ["--out"] = _folder["out"],
            ["--keys"] = _folder["keys.json"],
            ["--port"] = "0",
            ["--management-port"] = "0",
            ["--from"] = "http://127.0.0.1:1/nothing",
            ["--stages"] = "2",
            ["--ordinal"] = "0",
        };
        var options = new List<string>();
        foreach (var option in command.Options.Where(option => option == of || option.Required
            || (name is "eval" or "sequence" or "train" && option.Name is "--model" or "--data")
            || option.Name is "--port" or "--management-port"))
            if (option != of)
                options.AddRange([option.Name, given[option.Name]]);
        if (of is Option bad)
            options.AddRange([bad.Name, value]);
        line.InsertRange(name.Split(' ').Length, options);
        return line;
    }

    /// <summary>In this process: a process each would take an hour.</summary>
    private async Task<(int Code, string Output)> RunAsync(IReadOnlyList<string> arguments)
    {
        var (output, error, folder) = (Console.Out, Console.Error, Environment.CurrentDirectory);
        using var said = new StringWriter();
        try
        {
            Console.SetOut(said);
            Console.SetError(said);
            Environment.CurrentDirectory = _folder.Path;
            return (await CommandLine.RunAsync([.. arguments]).WaitAsync(Patience), said.ToString());
        }
        finally
        {
            Console.SetOut(output);
            Console.SetError(error);
            Environment.CurrentDirectory = folder;
        }
    }

    [GeneratedRegex(@"^(?<code>\w+): ")]
    private static partial Regex Coded();
}
