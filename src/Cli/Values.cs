using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;

namespace MendCluster.Cli;

/// <summary>
/// How the values of the command line are read, in one place: numbers are invariant, finite, without thousands separators and in the range
/// that their option names; names are names and no numbers; paths and texts are not empty. <see cref="Check(Command)"/> goes through every
/// command, so an option that is added is covered, or refused at the first start.
/// </summary>
internal static class Values
{
    private static readonly ConditionalWeakTable<Symbol, Range> Ranges = [];

    /// <summary>The numbers that are allowed.</summary>
    /// <param name="Above">Without <paramref name="Least"/> itself.</param>
    public sealed record Range(double Least, double Most, bool Above)
    {
        public bool Has(double value) => (Above ? value > Least : value >= Least) && value <= Most;

        public override string ToString() => (Least, Most) switch
        {
            (double.NegativeInfinity, double.PositiveInfinity) => "a number",
            (_, double.PositiveInfinity) => string.Create(CultureInfo.InvariantCulture, $"{(Above ? "more than" : "at least")} {Least}"),
            _ => string.Create(CultureInfo.InvariantCulture,
                $"{(Above ? "more than" : "from")} {Least} {(Above ? "and at most" : "to")} {Most}"),
        };
    }

    public static Range? RangeOf(Symbol symbol) => Ranges.TryGetValue(symbol, out var range) ? range : null;

    public static Option<T> Within<T>(this Option<T> option, double least, double most = double.PositiveInfinity)
    {
        Ranges.Add(option, new(least, most, Above: false));
        return option;
    }

    public static Option<T> MoreThan<T>(this Option<T> option, double least, double most = double.PositiveInfinity)
    {
        Ranges.Add(option, new(least, most, Above: true));
        return option;
    }

    public static Argument<T> Within<T>(this Argument<T> argument, double least, double most = double.PositiveInfinity)
    {
        Ranges.Add(argument, new(least, most, Above: false));
        return argument;
    }

    /// <summary>Gives every option and argument of a command and of those below it its reader.</summary>
    public static void Check(Command command)
    {
        foreach (var option in command.Options)
            Check(option);
        foreach (var argument in command.Arguments)
            Check(argument);
        foreach (var below in command.Subcommands)
            Check(below);
    }

    private static void Check(Option option)
    {
        switch (option)
        {
            case Option<int> { CustomParser: null } number: number.CustomParser = result => Number<int>(result, option); break;
            case Option<int?> { CustomParser: null } number: number.CustomParser = result => Number<int>(result, option); break;
            case Option<long> { CustomParser: null } number: number.CustomParser = result => Number<long>(result, option); break;
            case Option<long?> { CustomParser: null } number: number.CustomParser = result => Number<long>(result, option); break;
            case Option<ulong> { CustomParser: null } number: number.CustomParser = result => Number<ulong>(result, option); break;
            case Option<double> { CustomParser: null } number: number.CustomParser = result => Number<double>(result, option); break;
            case Option<double?> { CustomParser: null } number: number.CustomParser = result => Number<double>(result, option); break;
            case Option<FileInfo> { CustomParser: null } path:
                path.CustomParser = result =>
                Path(result, option, file => new FileInfo(file)); break;
            case Option<DirectoryInfo> { CustomParser: null } path:
                path.CustomParser = result =>
                Path(result, option, file => new DirectoryInfo(file)); break;
            case Option<FileSystemInfo> { CustomParser: null } path: path.CustomParser = result => Path(result, option, Existing); break;
            case Option<FileInfo[]> { CustomParser: null } paths:
                paths.CustomParser = result =>
                Paths(result, option, file => new FileInfo(file)); break;
            case Option<FileSystemInfo[]> { CustomParser: null } paths:
                paths.CustomParser = result =>
                Paths(result, option, Existing); break;
            default:
                if (Nullable.GetUnderlyingType(option.ValueType) is { IsEnum: true } || option.ValueType.IsEnum)
                    option.Validators.Add(Name);
                break;
        }
        option.Validators.Add(NotBlank);
    }

    private static void Check(Argument argument)
    {
        switch (argument)
        {
            case Argument<int> number: number.CustomParser = result => Number<int>(result, argument); break;
            case Argument<long> number: number.CustomParser = result => Number<long>(result, argument); break;
            case Argument<string>: break; // prompts and targets, which the model's door checks
            default: throw new InvalidOperationException($"nothing reads the argument {argument.Name} of {argument.ValueType}");
        }
    }

    private static T Number<T>(ArgumentResult result, Symbol of)
        where T : struct
    {
        var range = RangeOf(of) ?? throw new InvalidOperationException($"{of.Name} has no range");
        var text = result.Tokens.Count == 1 ? result.Tokens[0].Value : "";
        var (type, culture) = (typeof(T), CultureInfo.InvariantCulture);
        const NumberStyles whole = NumberStyles.AllowLeadingSign;
        object? value = type == typeof(double)
            ? double.TryParse(text, whole | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, culture, out var real)
            && double.IsFinite(real) ? real : null
            : type == typeof(int) ? int.TryParse(text, whole, culture, out var number) ? number : null
            : type == typeof(long) ? long.TryParse(text, whole, culture, out var large) ? large : null
            : ulong.TryParse(text, whole, culture, out var natural) ? natural : null;
        if (value is not null && range.Has(Convert.ToDouble(value, culture)))
            return (T)value;
        result.AddError($"{of.Name} is '{text}'; it is {(type == typeof(double) ? "" : "whole, ")}{range}, with a point before decimals and nothing between thousands.");
        return default;
    }

    private static T? Path<T>(ArgumentResult result, Symbol of, Func<string, T> make)
        where T : class => Paths(result, of, make) is [var path] ? path : null;

    private static T[] Paths<T>(ArgumentResult result, Symbol of, Func<string, T> make)
        where T : class
    {
        var paths = new List<T>();
        foreach (var text in result.Tokens.Select(token => token.Value))
            try
            {
                paths.Add(string.IsNullOrWhiteSpace(text) ? throw new ArgumentException("it is empty.") : make(text));
            }
            catch (Exception e) when (e is ArgumentException or NotSupportedException or IOException)
            {
                result.AddError($"{of.Name} is '{text}', which is no path: {e.Message}");
            }
        return [.. paths];
    }

    private static FileSystemInfo Existing(string path) => Directory.Exists(path) ? new DirectoryInfo(path) : new FileInfo(path);

    /// <summary>The values of an enum by name: its numbers are nobody's business.</summary>
    private static void Name(OptionResult result)
    {
        var type = Nullable.GetUnderlyingType(result.Option.ValueType) ?? result.Option.ValueType;
        var names = type == typeof(DType) ? [.. WeightTypes.All.Select(weights => weights.ToString())] : Enum.GetNames(type);
        foreach (var token in result.Tokens.Where(token => !names.Contains(token.Value, StringComparer.OrdinalIgnoreCase)))
            result.AddError($"{result.Option.Name} is '{token.Value}'; it is one of {string.Join(", ", names).ToLowerInvariant()}.");
    }

    private static void NotBlank(OptionResult result)
    {
        if (result.Option is Option<string> or Option<string[]> && result.Tokens.Any(token => string.IsNullOrWhiteSpace(token.Value)))
            result.AddError($"{result.Option.Name} is empty.");
        if (result.Tokens.Any(token => token.Value.Contains('\0')))
            result.AddError($"{result.Option.Name} holds a character 0, which no path and no name may.");
    }
}
