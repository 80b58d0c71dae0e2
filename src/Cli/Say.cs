using System.Globalization;
using System.Text;
using MendCluster.Contracts;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>
/// What the program says. Whatever stands in a text that it was given (prompts, targets, answers, names of files) is shown and never
/// obeyed: control characters are written as escapes, markup as it stands.
/// </summary>
internal static class Say
{
    /// <summary>A line, in whose text <c>[bold]</c> and its like are markup. Not wrapped where nobody reads it on a terminal.</summary>
    public static void Line(FormattableString text)
    {
        var markup = text.ToString(Argument.Format);
        if (Console.IsOutputRedirected)
            Console.Out.WriteLine(Markup.Remove(markup));
        else
            AnsiConsole.MarkupLine(markup);
    }

    public static void Line(TextWriter writer, FormattableString text) => writer.WriteLine(Markup.Remove(text.ToString(Argument.Format)));

    /// <summary>One line on the standard error: the code, what and where, what to do.</summary>
    public static void Error(MendError code, string what, string advice)
    {
        try
        {
            Line(Console.Error, $"{code}: {what}{(what.EndsWith('.') || what.EndsWith('?') || what.EndsWith('!') ? "" : ".")} {advice}");
        }
        catch (IOException)
        {
            // Nobody listens; the exit code says it.
        }
    }

    /// <summary>A text in a cell of a table.</summary>
    public static string Cell(string? text) => Markup.Escape(Visible(text ?? ""));

    /// <summary>With every control character, and what turns the order of letters around, as an escape.</summary>
    /// <param name="withLines">Line ends and tabs are kept.</param>
    public static string Visible(string text, bool withLines = false)
    {
        if (!text.Any(letter => IsControl(letter) && !(withLines && letter is '\n' or '\t')))
            return text;
        var shown = new StringBuilder();
        foreach (var letter in text)
            shown.Append(letter switch
            {
                '\n' or '\t' when withLines => $"{letter}",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                _ when IsControl(letter) => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)letter:x4}"),
                _ => $"{letter}",
            });
        return shown.ToString();
    }

    private static bool IsControl(char letter) =>
        char.IsControl(letter) || letter is '\u2028' or '\u2029' or (>= '\u202a' and <= '\u202e') or (>= '\u2066' and <= '\u2069');

    /// <summary>Formats invariantly, then makes what comes of it harmless.</summary>
    private sealed class Argument : IFormatProvider, ICustomFormatter
    {
        public static Argument Format { get; } = new();

        public object? GetFormat(Type? formatType) => formatType == typeof(ICustomFormatter) ? this : null;

        string ICustomFormatter.Format(string? format, object? arg, IFormatProvider? formatProvider) =>
            Cell(arg is IFormattable number ? number.ToString(format, CultureInfo.InvariantCulture) : arg?.ToString());
    }
}
