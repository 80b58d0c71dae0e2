using MendCluster.Contracts;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;

namespace MendCluster.Server;

/// <summary>The API's own description. The build writes it (mend openapi), and a test compares docs/openapi.json with that.</summary>
internal static class OpenApi
{
    public const string Document = "v1", Route = $"/openapi/{Document}.json";

    private const string KeyScheme = "key", EditNumber = "Number of an edit";

    public static void AddMendOpenApi(this IServiceCollection services) => services.AddOpenApi(Document, options =>
    {
        options.OpenApiVersion = OpenApiSpecVersion.OpenApi3_1;
        options.AddSchemaTransformer((schema, context, _) =>
        {
            var type = Nullable.GetUnderlyingType(context.JsonTypeInfo.Type) ?? context.JsonTypeInfo.Type;
            var isNullable = type != context.JsonTypeInfo.Type;
            if (type == typeof(EditId) || type == typeof(ModelVersion))
                (schema.Type, schema.Format, schema.Description) =
                    (JsonSchemaType.Integer, "int64", type == typeof(EditId) ? EditNumber : "Version of the model");
            else if (type == typeof(IReadOnlyList<EditId>))
                schema.Items = new OpenApiSchema { Type = JsonSchemaType.Integer, Format = "int64", Description = EditNumber };
            else if (type == typeof(double))
                (schema.Type, schema.Format) = (JsonSchemaType.Number, "double");
            else if (type == typeof(TimeSpan))
                (schema.Type, schema.Description) = (JsonSchemaType.Number, "Seconds");
            else
                return Task.CompletedTask;
            if (isNullable)
                schema.Type |= JsonSchemaType.Null;
            return Task.CompletedTask;
        });
        options.AddOperationTransformer(async (operation, context, cancellation) =>
        {
            var problem = await context.GetOrCreateSchemaAsync(typeof(Problem), null, cancellation);
            context.Document!.AddComponent(nameof(Problem), problem);
            operation.Responses!["default"] = new OpenApiResponse
            {
                Description = "What went wrong; docs/errors.md has every code",
                Content = new Dictionary<string, OpenApiMediaType>
                {
                    [MendHttp.ProblemType] =
                    new() { Schema = new OpenApiSchemaReference(nameof(Problem), context.Document) }
                },
            };
        });
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info = new()
            {
                Title = "MendCluster",
                Version = Document,
                Description = "Edits what a language model knows, as a transaction.",
                License = new() { Name = "MIT", Identifier = "MIT" },
            };
            document.Servers = [new() { Url = "/" }];
            document.Components ??= new();
            document.Components.SecuritySchemes = new Dictionary<string, IOpenApiSecurityScheme>
            {
                [KeyScheme] = new OpenApiSecurityScheme
                {
                    Type = SecuritySchemeType.Http,
                    Scheme = "bearer",
                    Description = "An API key, or a token of the issuer that the server trusts"
                },
            };
            document.Security = [new() { [new OpenApiSecuritySchemeReference(KeyScheme, document)] = [] }];
            return Task.CompletedTask;
        });
    });
}
