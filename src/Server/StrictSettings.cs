using System.Collections;
using System.Reflection;
using MendCluster.Contracts;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace MendCluster.Server;

/// <summary>
/// Reads settings so that nothing in them is ignored: keys that no setting has, items that lack a part, and values that cannot be read are
/// faults.
/// </summary>
public static class StrictSettings
{
    /// <param name="faults">What else is wrong with the settings, each beginning with the key below the section.</param>
    /// <exception cref="OptionsValidationException">With a line for each fault, which names the key that it is at.</exception>
    public static T Read<T>(IConfigurationSection section, Func<T, IEnumerable<string>> faults)
        where T : class, new()
    {
        if (Misfits(section, typeof(T)).ToList() is { Count: > 0 } misfits)
            throw Refused<T>(misfits);
        try
        {
            // Without this an item that cannot be read is left out.
            var settings = section.Get<T>(binder => binder.ErrorOnUnknownConfiguration = true) ?? new();
            return faults(settings).Select(fault => $"{section.Path}:{fault}.").ToList() is { Count: > 0 } found ? throw Refused<T>(found)
                : settings;
        }
        catch (InvalidOperationException e) // a value that cannot be converted; the messages name key and value
        {
            throw Refused<T>([$"{e.Message} {e.InnerException?.Message}".TrimEnd()]);
        }
        catch (TargetInvocationException e) when (e.InnerException is MendException refused) // by the setting's own type
        {
            throw Refused<T>([$"{section.Path}: {refused.Message}"]);
        }
    }

    private static OptionsValidationException Refused<T>(IEnumerable<string> faults) => new(typeof(T).Name, typeof(T), faults);

    /// <summary>Keys that no setting has, since a typing error must not pass for the default; and items that lack a part.</summary>
    private static IEnumerable<string> Misfits(IConfigurationSection section, Type type)
    {
        if (ElementOf(type) is { } element)
            return section.GetChildren().SelectMany(item => Misfits(item, element));
        var settings = type.GetProperties().Where(property => property.CanWrite)
            .ToDictionary(property => property.Name, property => property.PropertyType, StringComparer.OrdinalIgnoreCase);
        var missing = settings.Count == 0 ? [] : type.GetConstructors().SelectMany(constructor => constructor.GetParameters())
            .Where(part => !part.HasDefaultValue && section[part.Name!] is null).Select(part => $"{section.Path} has no {part.Name}.");
        var known = settings.Count == 0 ? "one value" : string.Join(", ", settings.Keys);
        return missing.Concat(section.GetChildren().SelectMany(child => settings.TryGetValue(child.Key, out var setting)
            ? Misfits(child, setting) : [$"{child.Path} is no setting; {section.Path} has {known}."]));
    }

    private static Type? ElementOf(Type type) =>
        type.IsGenericType && type.IsAssignableTo(typeof(IEnumerable)) ? type.GetGenericArguments()[0] : null;
}
