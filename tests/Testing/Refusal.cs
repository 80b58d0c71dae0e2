using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>Refusals that a test waits for, told apart by their code.</summary>
public static class Refusal
{
    /// <summary>Passes any other failure on, which then says why the test fails.</summary>
    public static MendException Of(MendError error, Action refused)
    {
        try
        {
            refused();
        }
        catch (MendException e) when (e.Error == error)
        {
            return e;
        }
        throw new InvalidOperationException($"Nothing was refused; {error} was awaited.");
    }

    /// <inheritdoc cref="Of(MendError, Action)" />
    public static MendException Of(MendError error, Func<object?> refused) => Of(error, () => { refused(); });
}
