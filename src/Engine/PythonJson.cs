using System.Text.RegularExpressions;

namespace MendCluster.Engine;

/// <summary>
/// The JSON of a model's files as Python's json module writes and reads it: with NaN, Infinity and -Infinity, which JSON has not. They
/// become texts: where nothing reads them they are in nobody's way, and where a number is wanted they are refused by name, as any text is.
/// </summary>
internal static partial class PythonJson
{
    public static string ToJson(string text) =>
        Token().Replace(text, token => token.ValueSpan[0] == '"' ? token.Value : $"\"{token.Value}\"");

    [GeneratedRegex("""  "(?>(?:[^"\\]+|\\.)*)"  |  -?Infinity  |  NaN  """,
        RegexOptions.IgnorePatternWhitespace | RegexOptions.Singleline)]
    private static partial Regex Token();
}
