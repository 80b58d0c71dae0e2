using System.Security.Claims;
using MendCluster.Contracts;

namespace MendCluster.Server.Security;

/// <summary>What a caller may do. Each right has those before it.</summary>
public enum Right
{
    /// <summary>Ask, and see ledger and state.</summary>
    Read,

    /// <summary>Make edits, try them, and take them back.</summary>
    Edit,

    /// <summary>Train editors.</summary>
    Admin,
}

/// <summary>Who asks, as an authenticated request has it.</summary>
/// <param name="Name">In the ledger.</param>
/// <param name="Right">The greatest; null: none.</param>
/// <param name="Scopes">
/// The only ones that may be edited and seen, beside what is for everybody; null: all, and what is for everybody may be edited.
/// </param>
internal sealed record Caller(string Name, Right? Right, IReadOnlyList<string>? Scopes)
{
    public const string NameClaim = "mend.name", RightClaim = "mend.right", ScopeClaim = "mend.scope", LimitedClaim = "mend.limited";

    public ClaimsPrincipal ToPrincipal(string scheme) => new(new ClaimsIdentity(
        [
            new(NameClaim, Name), .. Right is { } right ? [new Claim(RightClaim, right.ToString())] : Array.Empty<Claim>(),
            .. Scopes is null ? [] : Scopes.Select(scope => new Claim(ScopeClaim, scope)).Prepend(new(LimitedClaim, "")),
        ], scheme, NameClaim, RightClaim));

    /// <returns>Null when nobody was authenticated.</returns>
    public static Caller? Find(ClaimsPrincipal user) => user.FindFirst(NameClaim) is not { } name ? null
        : new(name.Value, user.FindFirst(RightClaim) is { } right ? Enum.Parse<Right>(right.Value) : null,
            user.HasClaim(claim => claim.Type == LimitedClaim) ? [.. user.FindAll(ScopeClaim).Select(claim => claim.Value)] : null);

    public static Caller Of(ClaimsPrincipal user) => Find(user)
        ?? throw new InvalidOperationException("an endpoint let in a request without a caller");

    /// <exception cref="MendException">An edit of this scope is not this caller's business.</exception>
    public void RequireEditsOf(string? scope)
    {
        if (Scopes is not null && (scope is null || !Scopes.Contains(scope)))
            throw new MendException(MendError.NotAllowed, scope is null ? $"{Name} may not edit what everybody sees."
                : $"{Name} may not edit the scope '{scope}'.",
                Scopes.Count == 0 ? "Its key has no scopes." : $"Name one of its scopes: {string.Join(", ", Scopes)}.");
    }

    /// <exception cref="MendException">Answers of this scope are not this caller's business.</exception>
    public void RequireAnswersOf(string? scope)
    {
        if (Scopes is not null && scope is not null && !Scopes.Contains(scope))
            throw new MendException(MendError.NotAllowed, $"{Name} may not ask in the scope '{scope}'.",
                "Name one of its scopes, or none.");
    }
}
