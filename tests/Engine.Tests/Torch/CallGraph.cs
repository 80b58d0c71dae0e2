using System.Collections.Immutable;
using System.Reflection.Emit;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>
/// Which methods the methods of an assembly call, read from its code. A method's name here is Namespace.Type.Method(Parameter,Parameter).
/// </summary>
internal sealed class CallGraph : IDisposable
{
    private static readonly Dictionary<int, OpCode> Codes =
        typeof(OpCodes).GetFields().Select(field => (OpCode)field.GetValue(null)!).ToDictionary(code => (int)(ushort)code.Value);

    private readonly PEReader _file;
    private readonly MetadataReader _tables;
    private readonly TypeNames _names = new();

    public CallGraph(string path)
    {
        _file = new PEReader(File.OpenRead(path));
        _tables = _file.GetMetadataReader();
        Calls = _tables.MethodDefinitions.GroupBy(NameOf).ToDictionary(same => same.Key, same => same.SelectMany(CalledBy).ToHashSet());
    }

    /// <summary>Each method and what it calls, in this assembly and in others.</summary>
    public IReadOnlyDictionary<string, HashSet<string>> Calls { get; }

    public void Dispose() => _file.Dispose();

    /// <returns>
    /// The methods that call one of <paramref name="ends"/>, or one that does, and so on; each with its next step towards the end.
    /// </returns>
    public Dictionary<string, string> WhatReaches(IEnumerable<string> ends)
    {
        var callers = Calls.SelectMany(call => call.Value.Select(callee => (callee, caller: call.Key)))
            .ToLookup(call => call.callee, call => call.caller);
        var found = ends.ToDictionary(end => end, end => "");
        var open = new Queue<string>(found.Keys);
        while (open.TryDequeue(out var callee))
            foreach (var caller in callers[callee].Where(caller => found.TryAdd(caller, callee)))
                open.Enqueue(caller);
        return found;
    }

    private IEnumerable<string> CalledBy(MethodDefinitionHandle method)
    {
        var address = _tables.GetMethodDefinition(method).RelativeVirtualAddress;
        if (address == 0)
            yield break;
        var code = _file.GetMethodBody(address).GetILReader();
        while (code.RemainingBytes > 0)
        {
            int value = code.ReadByte();
            var kind = Codes[value == 0xfe ? 0xfe00 | code.ReadByte() : value].OperandType;
            if (kind == OperandType.InlineMethod)
                yield return NameOf(MetadataTokens.EntityHandle(code.ReadInt32()));
            var skipped = kind switch
            {
                OperandType.InlineNone or OperandType.InlineMethod => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 * code.ReadInt32(),
                _ => 4,
            };
            code.Offset += skipped;
        }
    }

    private string NameOf(EntityHandle method)
    {
        if (method.Kind == HandleKind.MethodSpecification)
            method = _tables.GetMethodSpecification((MethodSpecificationHandle)method).Method;
        if (method.Kind == HandleKind.MemberReference)
        {
            var there = _tables.GetMemberReference((MemberReferenceHandle)method);
            return Name(there.Parent, there.Name, there.DecodeMethodSignature(_names, null));
        }
        return NameOf((MethodDefinitionHandle)method);
    }

    private string NameOf(MethodDefinitionHandle method)
    {
        var here = _tables.GetMethodDefinition(method);
        return Name(here.GetDeclaringType(), here.Name, here.DecodeSignature(_names, null));
    }

    /// <remarks>One name for the method of all instances of a generic type.</remarks>
    private string Name(EntityHandle type, StringHandle name, MethodSignature<string> signature) =>
        $"{_names.Of(_tables, type).Split('<')[0]}.{_tables.GetString(name)}({string.Join(",", signature.ParameterTypes)})";

    private sealed class TypeNames : ISignatureTypeProvider<string, object?>
    {
        public string Of(MetadataReader tables, EntityHandle type) => type.Kind switch
        {
            HandleKind.TypeDefinition => GetTypeFromDefinition(tables, (TypeDefinitionHandle)type, 0),
            HandleKind.TypeReference => GetTypeFromReference(tables, (TypeReferenceHandle)type, 0),
            HandleKind.TypeSpecification => GetTypeFromSpecification(tables, null, (TypeSpecificationHandle)type, 0),
            _ => type.Kind.ToString(),
        };

        public string GetTypeFromDefinition(MetadataReader tables, TypeDefinitionHandle handle, byte rawTypeKind)
        {
            var type = tables.GetTypeDefinition(handle);
            var outer = type.GetDeclaringType();
            return (outer.IsNil ? tables.GetString(type.Namespace) : Of(tables, outer)) + "." + tables.GetString(type.Name);
        }

        public string GetTypeFromReference(MetadataReader tables, TypeReferenceHandle handle, byte rawTypeKind)
        {
            var type = tables.GetTypeReference(handle);
            var outer = type.ResolutionScope;
            return (outer.Kind == HandleKind.TypeReference ? Of(tables, outer) : tables.GetString(type.Namespace)) + "."
                + tables.GetString(type.Name);
        }

        public string GetTypeFromSpecification(MetadataReader tables, object? context, TypeSpecificationHandle handle, byte rawTypeKind) =>
            tables.GetTypeSpecification(handle).DecodeSignature(this, context);

        public string GetGenericInstantiation(string genericType, ImmutableArray<string> typeArguments) =>
            $"{genericType}<{string.Join(",", typeArguments)}>";

        public string GetArrayType(string elementType, ArrayShape shape) => elementType + "[,]";

        public string GetByReferenceType(string elementType) => elementType + "&";

        public string GetFunctionPointerType(MethodSignature<string> signature) => "*";

        public string GetGenericMethodParameter(object? context, int index) => "!!" + index;

        public string GetGenericTypeParameter(object? context, int index) => "!" + index;

        public string GetModifiedType(string modifier, string unmodifiedType, bool isRequired) => unmodifiedType;

        public string GetPinnedType(string elementType) => elementType;

        public string GetPointerType(string elementType) => elementType + "*";

        public string GetPrimitiveType(PrimitiveTypeCode typeCode) => typeCode.ToString();

        public string GetSZArrayType(string elementType) => elementType + "[]";
    }
}
