using MendCluster.Contracts;

namespace MendCluster.Engine;

/// <summary>The failures that reading, editing and training find, each with what its user has to put right.</summary>
public static class Fault
{
    /// <summary>Refuses a model's configuration, or a text or a weight that the model does not have.</summary>
    /// <param name="where">File, or part of what was asked for.</param>
    /// <param name="what">Key, tensor or argument.</param>
    /// <param name="reason">What was found, and what would do.</param>
    public static MendException Model(string where, string what, string reason) =>
        new(MendError.ModelUnusable, $"{where}: {what}: {reason}", "Correct the model's files, or name another model.");

    /// <summary>Refuses a checkpoint's, a tokenizer's or an editor's file.</summary>
    /// <param name="path">Of the file or directory.</param>
    /// <param name="where">Tensor, key, line or offset in it.</param>
    /// <param name="reason">What was found, what was expected, and what to do.</param>
    /// <param name="inner">The parser's own error, if there is one.</param>
    public static MendException File(string path, string where, string reason, Exception? inner = null) =>
        new(MendError.ModelUnusable, $"{path}: {where}: {reason}", "Correct or replace the file that is named, or name another.", inner);

    /// <summary>Refuses an editor that does not fit what it is to be used on, or was not trained.</summary>
    public static MendException Editor(string reason) =>
        new(MendError.ModelUnusable, reason, "Name an editor that was trained for this model, or train one: mend train.");

    /// <summary>Refuses a setting, which the reason names with its range.</summary>
    public static MendException Setting(string reason) => new(MendError.InvalidOption, reason, "Correct the setting.");
}
