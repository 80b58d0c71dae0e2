using System.Net;
using System.Security.Claims;
using System.Text.Encodings.Web;
using MendCluster.Contracts;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Authorization.Policy;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace MendCluster.Server.Security;

/// <summary>Who asks, and whether they may. What no rule allows is refused.</summary>
internal static class Authentication
{
    /// <summary>Before the names of those whom an issuer vouches for, so that no key's name can be theirs.</summary>
    public const string OidcPrefix = "oidc:";

    public const string AnonymousName = "anonymous";

    private const string Bearer = "Bearer ", Choice = "mend", Keys = "mend.key", Oidc = "mend.oidc", OidcRights = "mend.";

    public static void AddMendAuthentication(this IServiceCollection services, ServerSettings settings)
    {
        var authentication = services.AddAuthentication(Choice)
            .AddPolicyScheme(Choice, null, options => options.ForwardDefaultSelector = http =>
                settings.Oidc is not null && TokenOf(http.Request) is { } token
                && !token.StartsWith(ApiKey.Prefix, StringComparison.Ordinal) ? Oidc : Keys)
            .AddScheme<AuthenticationSchemeOptions, KeyHandler>(Keys, null);
        if (settings.Oidc is { } oidc)
            authentication.AddJwtBearer(Oidc, options =>
            {
                (options.Authority, options.Audience, options.MapInboundClaims) = (oidc.Authority, oidc.Audience, false);
                options.RequireHttpsMetadata = !new Uri(oidc.Authority).IsLoopback;
                options.TokenValidationParameters.ClockSkew = TimeSpan.FromSeconds(30);
                options.Events = new()
                {
                    OnTokenValidated = token =>
                    {
                        if (token.Principal!.FindFirst(oidc.NameClaim) is { Value.Length: > 0 } name && !name.Value.Any(char.IsControl))
                            token.Principal = new Caller(OidcPrefix + name.Value, RightOf(token.Principal), null).ToPrincipal(Oidc);
                        else
                            token.Fail($"The token has no {oidc.NameClaim}.");
                        return Task.CompletedTask;
                    },
                    OnAuthenticationFailed = failed =>
                    {
                        LogMessages.TokenRefused(failed.HttpContext.RequestServices.GetRequiredService<ILogger<ApiKeys>>(),
                            failed.Exception,
                            failed.Exception.Message);
                        return Task.CompletedTask;
                    },
                };
            });
        services.AddAuthorization(options =>
        {
            foreach (var right in Enum.GetValues<Right>())
                options.AddPolicy(right.ToString(),
                    policy => policy.RequireAuthenticatedUser().RequireAssertion(context => Caller.Find(context.User)?.Right >= right));
            // An endpoint that names no right is for nobody; where there is no endpoint, whoever is known learns that there is none.
            options.FallbackPolicy = new AuthorizationPolicyBuilder().RequireAuthenticatedUser()
                .RequireAssertion(context => context.Resource is HttpContext http && http.GetEndpoint() is not RouteEndpoint).Build();
        });
        services.AddSingleton<IAuthorizationMiddlewareResultHandler, Refusals>();
    }

    /// <summary>Lets in whoever has this right.</summary>
    public static TBuilder Requires<TBuilder>(this TBuilder endpoint, Right right)
        where TBuilder : IEndpointConventionBuilder =>
            endpoint.RequireAuthorization(right.ToString()).WithMetadata(new RequiredRight(right));

    private static string? TokenOf(HttpRequest request) =>
        request.Headers.Authorization is [{ } header] && header.StartsWith(Bearer, StringComparison.OrdinalIgnoreCase)
        ? header[Bearer.Length..].Trim() : null;

    /// <summary>Issuers have scopes as one string, or as a list.</summary>
    private static Right? RightOf(ClaimsPrincipal token) =>
        token.FindAll("scope").Concat(token.FindAll("scp")).SelectMany(claim => claim.Value.Split(' '))
        .Select(scope => Enum.GetValues<Right>().Where(right => scope == OidcRights + right.ToString().ToLowerInvariant()).Cast<Right?>()
            .FirstOrDefault()).Max();

    private sealed class KeyHandler(IOptionsMonitor<AuthenticationSchemeOptions> options, ILoggerFactory logger, UrlEncoder encoder,
        ApiKeys keys, ServerSettings settings)
        : AuthenticationHandler<AuthenticationSchemeOptions>(options, logger, encoder)
    {
        protected override Task<AuthenticateResult> HandleAuthenticateAsync()
        {
            if (Request.Headers.Authorization.Count == 0)
                return Task.FromResult(settings.Anonymous && Context.Connection.RemoteIpAddress is { } remote
                    && IPAddress.IsLoopback(remote)
                    ? Success(new(AnonymousName, Right.Admin, null)) : AuthenticateResult.NoResult());
            return Task.FromResult(TokenOf(Request) is { } token && keys.Find(token) is { } caller ? Success(caller)
                : AuthenticateResult.Fail("unknown or expired"));
        }

        private static AuthenticateResult Success(Caller caller) => AuthenticateResult.Success(new(caller.ToPrincipal(Keys), Keys));
    }

    /// <summary>Answers whoever is refused.</summary>
    private sealed class Refusals : IAuthorizationMiddlewareResultHandler
    {
        public async Task HandleAsync(RequestDelegate next, HttpContext context, AuthorizationPolicy policy,
            PolicyAuthorizationResult authorizeResult)
        {
            if (authorizeResult.Succeeded)
                await next(context);
            else if (authorizeResult.Challenged)
            {
                context.Response.Headers.WWWAuthenticate = "Bearer";
                throw new MendException(MendError.NotAuthenticated,
                    context.Request.Headers.Authorization.Count == 0 ? "The request has no key."
                    : "The key or token is unknown or expired, or not sent as a bearer.",
                    "Send Authorization: Bearer and the key.");
            }
            else
                throw new MendException(MendError.NotAllowed,
                    $"{Caller.Find(context.User)?.Name} has not the right that this needs: {Needed(context)}.",
                    "Ask with a key that has it.");
        }

        private static string Needed(HttpContext context) =>
            context.GetEndpoint()?.Metadata.GetMetadata<RequiredRight>() is { } required ? required.Right.ToString().ToLowerInvariant()
            : "none is enough";
    }
}

/// <summary>The right that an endpoint asks for.</summary>
internal sealed record RequiredRight(Right Right);
