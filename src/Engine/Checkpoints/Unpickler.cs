using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Reads one pickle of protocol 2 to 5 as torch.save writes it, and runs nothing. A pickle is a program for a small stack machine whose
/// one dangerous step is to import a name and call it; here a name is looked up in <see cref="Known"/> and everything else is refused by
/// name, or, if the caller wants to see it, kept as a <see cref="PickledObject"/> that only says what was there.
/// <para>
/// Values: None null, bool, int long or BigInteger, float double, str string, bytes byte[], tuple object?[], list List, set HashSet,
/// dict and OrderedDict OrderedDictionary, tensors <see cref="PickledTensor"/>.
/// </para>
/// <para>
/// Every opcode consumes input and is charged against <see cref="ValueLimit"/>, as is every value copied from a container that could be
/// shared, so that memory and time are linear in a bounded number. The result has no cycles and is at most <see cref="DepthLimit"/> deep.
/// </para>
/// </summary>
internal sealed class Unpickler(
    string file, byte[] pickle, int start, bool allowInertObjects, Func<StorageReference, PickledStorage> findStorage)
{
    public const int LengthLimit = 1 << 26;
    public const int DepthLimit = 100;
    private const int ValueLimit = 1 << 22;
    private const int RankLimit = 32;
    private const int LongIntegerLimit = 1024;

    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly List<object?> _memo = [];
    private int _next = start;
    private int _opcodeAt = start;
    private int _spent;

    /// <summary>A class whose objects are plain tensors.</summary>
    private static readonly object TensorClass = new();

    /// <summary>What a global can be in a file of tensors: the complete list.</summary>
    private static readonly Dictionary<string, object> Known = new()
    {
        ["collections.OrderedDict"] = new KnownFunction((p, args) => p.BuildDictionary(args)),
        ["builtins.set"] = new KnownFunction((p, args) => p.BuildSet(args)),
        ["__builtin__.set"] = new KnownFunction((p, args) => p.BuildSet(args)),
        ["builtins.frozenset"] = new KnownFunction((p, args) => p.BuildSet(args)),
        ["__builtin__.frozenset"] = new KnownFunction((p, args) => p.BuildSet(args)),
        ["_codecs.encode"] = new KnownFunction((p, args) => p.BuildBytes(args)),
        ["torch.Size"] = new KnownFunction((p, args) => p.Argument<object?[]>(args, 0, "torch.Size")),
        ["torch._utils._rebuild_tensor"] = new KnownFunction((p, args) => p.BuildTensor(args)),
        ["torch._utils._rebuild_tensor_v2"] = new KnownFunction((p, args) => p.BuildTensor(args)),
        ["torch._utils._rebuild_parameter"] = new KnownFunction((p, args) => p.Argument<PickledTensor>(args, 0, "_rebuild_parameter")),
        ["torch._utils._rebuild_parameter_with_state"] =
            new KnownFunction((p, args) => p.Argument<PickledTensor>(args, 0, "_rebuild_parameter_with_state")),
        ["torch._tensor._rebuild_from_type_v2"] = new KnownFunction((p, args) => p.BuildOfType(args)),
        ["torch.Tensor"] = TensorClass,
        ["torch.nn.parameter.Parameter"] = TensorClass,
        ["torch.nn.parameter.Buffer"] = TensorClass,
        ["torch.DoubleStorage"] = DType.Float64,
        ["torch.FloatStorage"] = DType.Float32,
        ["torch.HalfStorage"] = DType.Float16,
        ["torch.BFloat16Storage"] = DType.BFloat16,
        ["torch.LongStorage"] = DType.Int64,
        ["torch.IntStorage"] = DType.Int32,
        ["torch.ShortStorage"] = DType.Int16,
        ["torch.CharStorage"] = DType.Int8,
        ["torch.ByteStorage"] = DType.UInt8,
        ["torch.BoolStorage"] = DType.Bool,
        ["torch.ComplexFloatStorage"] = DType.Complex64,
    };

    /// <summary>Offset of the first byte after the pickle, once <see cref="Load"/> has returned.</summary>
    public int End => _next;

    public object? Load()
    {
        while (true)
        {
            _opcodeAt = _next;
            var opcode = Take(1)[0];
            if (opcode == '.')
                break;
            Spend(1);
            Step(opcode);
        }
        var root = Pop();
        if (_stack.Count != 0 || _marks.Count != 0)
            throw Bad($"the pickle ends with {_stack.Count} values and {_marks.Count} marks left over; it is damaged");
        new DepthCheck(this).Visit(root, 1);
        return root;
    }

    private void Step(byte opcode)
    {
        switch (opcode)
        {
            case 0x80: // PROTO
                var protocol = Take(1)[0];
                if (protocol is < 2 or > 5)
                    throw Bad($"pickle protocol {protocol}; expected 2 to 5");
                break;
            case 0x95: // FRAME
                TakeLength(8);
                break;
            case (byte)'(': // MARK
                _marks.Add(_stack.Count);
                break;
            case (byte)'0': // POP
                if (_marks.Count > 0 && _marks[^1] == _stack.Count)
                    _marks.RemoveAt(_marks.Count - 1);
                else
                    Pop();
                break;
            case (byte)'1': // POP_MARK
                PopToMark();
                break;
            case (byte)'2': // DUP
                _stack.Add(Peek());
                break;

            case (byte)'q': // BINPUT
                Memoize(Take(1)[0]);
                break;
            case (byte)'r': // LONG_BINPUT
                Memoize(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)));
                break;
            case 0x94: // MEMOIZE
                Memoize((uint)_memo.Count);
                break;
            case (byte)'h': // BINGET
                Recall(Take(1)[0]);
                break;
            case (byte)'j': // LONG_BINGET
                Recall(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)));
                break;

            case (byte)'N': // NONE
                _stack.Add(null);
                break;
            case 0x88: // NEWTRUE
                _stack.Add(true);
                break;
            case 0x89: // NEWFALSE
                _stack.Add(false);
                break;
            case (byte)'K': // BININT1
                _stack.Add((long)Take(1)[0]);
                break;
            case (byte)'M': // BININT2
                _stack.Add((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2)));
                break;
            case (byte)'J': // BININT
                _stack.Add((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4)));
                break;
            case 0x8a: // LONG1
                _stack.Add(Integer(TakeLength(1)));
                break;
            case 0x8b: // LONG4
                _stack.Add(Integer(TakeLength(4)));
                break;
            case (byte)'G': // BINFLOAT
                _stack.Add(BinaryPrimitives.ReadDoubleBigEndian(Take(8)));
                break;
            case 0x8c: // SHORT_BINUNICODE
                _stack.Add(Text(Take(TakeLength(1))));
                break;
            case (byte)'X': // BINUNICODE
                _stack.Add(Text(Take(TakeLength(4))));
                break;
            case 0x8d: // BINUNICODE8
                _stack.Add(Text(Take(TakeLength(8))));
                break;
            case (byte)'C': // SHORT_BINBYTES
                _stack.Add(Take(TakeLength(1)).ToArray());
                break;
            case (byte)'B': // BINBYTES
                _stack.Add(Take(TakeLength(4)).ToArray());
                break;
            case 0x8e or 0x96: // BINBYTES8, BYTEARRAY8
                _stack.Add(Take(TakeLength(8)).ToArray());
                break;

            case (byte)')': // EMPTY_TUPLE
                _stack.Add(Array.Empty<object?>());
                break;
            case 0x85 or 0x86 or 0x87: // TUPLE1, TUPLE2, TUPLE3
                _stack.Add(PopMany(opcode - 0x84));
                break;
            case (byte)'t': // TUPLE
                _stack.Add(PopToMark());
                break;
            case (byte)']': // EMPTY_LIST
                _stack.Add(new List<object?>());
                break;
            case (byte)'l': // LIST
                _stack.Add(PopToMark().ToList());
                break;
            case (byte)'a': // APPEND
                Append(PopMany(1));
                break;
            case (byte)'e': // APPENDS
                Append(PopToMark());
                break;
            case (byte)'}': // EMPTY_DICT
                _stack.Add(NewDictionary());
                break;
            case (byte)'d': // DICT
                var pairs = PopToMark();
                _stack.Add(NewDictionary());
                SetItems(pairs);
                break;
            case (byte)'s': // SETITEM
                SetItems(PopMany(2));
                break;
            case (byte)'u': // SETITEMS
                SetItems(PopToMark());
                break;
            case 0x8f: // EMPTY_SET
                _stack.Add(new HashSet<object>(PickleKeys.Comparer));
                break;
            case 0x90: // ADDITEMS
                var members = PopToMark();
                AddMembers(Peek() as HashSet<object> ?? throw Bad($"ADDITEMS on {Show(Peek())}; expected a set"), members);
                break;
            case 0x91: // FROZENSET
                _stack.Add(AddMembers(new(PickleKeys.Comparer), PopToMark()));
                break;

            case (byte)'c': // GLOBAL
                var module = TakeLine();
                _stack.Add(Resolve(module, TakeLine()));
                break;
            case 0x93: // STACK_GLOBAL
                var names = PopMany(2);
                _stack.Add(Resolve(names[0] as string ?? throw Bad("STACK_GLOBAL without a module name"),
                    names[1] as string ?? throw Bad("STACK_GLOBAL without a name")));
                break;
            case (byte)'R' or 0x81: // REDUCE, NEWOBJ
                var call = PopMany(2);
                _stack.Add(Call(call[0], call[1] as object?[] ?? throw Bad($"arguments are {Show(call[1])}; expected a tuple")));
                break;
            case 0x92: // NEWOBJ_EX
                var construction = PopMany(3);
                if (construction[0] is not PickledGlobal type)
                    throw Bad($"NEWOBJ_EX of {Show(construction[0])}");
                _stack.Add(new PickledObject(type, [construction[1], construction[2]]));
                break;
            case (byte)'b': // BUILD
                Build(Pop());
                break;
            case (byte)'Q': // BINPERSID
                _stack.Add(Storage(Pop()));
                break;

            default:
                throw Bad($"opcode 0x{opcode:x2} is not among those that torch.save writes");
        }
    }

    // Globals and what they build.

    private object Resolve(string module, string name)
    {
        if (Known.TryGetValue($"{module}.{name}", out var known))
            return known;
        if (allowInertObjects)
            return new PickledGlobal(module, name);
        throw Bad($"the file asks to import '{module}.{name}'. Only tensors and plain values are read, so it was refused and nothing was " +
            "run; save the state dict alone, or convert to safetensors");
    }

    private object? Call(object? function, object?[] args) => function switch
    {
        KnownFunction known => known.Build(this, args),
        PickledGlobal type => new PickledObject(type, args),
        _ => throw Bad($"{Show(function)} was called; expected a function that rebuilds a tensor or a container"),
    };

    private OrderedDictionary<object, object?> BuildDictionary(object?[] args)
    {
        var dictionary = NewDictionary();
        if (args.Length == 0)
            return dictionary;
        var pairs = Argument<List<object?>>(args, 0, "OrderedDict");
        Spend(pairs.Count);
        foreach (var item in pairs)
        {
            var (key, value) = item switch
            {
                object?[] { Length: 2 } pair => (pair[0], pair[1]),
                List<object?> { Count: 2 } pair => (pair[0], pair[1]),
                _ => throw Bad($"OrderedDict holds {Show(item)}; expected pairs"),
            };
            dictionary[Key(key)] = value;
        }
        return dictionary;
    }

    private HashSet<object> BuildSet(object?[] args)
    {
        var set = new HashSet<object>(PickleKeys.Comparer);
        if (args.Length == 0)
            return set;
        var members = Argument<List<object?>>(args, 0, "set");
        Spend(members.Count);
        return AddMembers(set, members);
    }

    /// <summary>Protocol 2 writes bytes as text whose characters are the bytes.</summary>
    private byte[] BuildBytes(object?[] args)
    {
        var text = Argument<string>(args, 0, "_codecs.encode");
        if (Argument<string>(args, 1, "_codecs.encode") is not ("latin1" or "latin-1") || text.Any(c => c > 0xff))
            throw Bad("_codecs.encode of other than latin1 text");
        Spend(text.Length);
        return Encoding.Latin1.GetBytes(text);
    }

    private PickledTensor BuildTensor(object?[] args)
    {
        const string Function = "_rebuild_tensor_v2";
        var storage = Argument<PickledStorage>(args, 0, Function);
        var offset = Argument<long>(args, 1, Function);
        var shape = Numbers(Argument<object?[]>(args, 2, Function));
        var stride = Numbers(Argument<object?[]>(args, 3, Function));
        if (shape.Length != stride.Length || offset < 0 || stride.Any(s => s < 0) || !storage.Type.TryByteLength(shape, out var byteLength))
            throw BadView("is no tensor: as many strides as dimensions, none negative, and less than 2^63 bytes are expected");

        var count = byteLength / storage.Type.ElementSize();
        Int128 last = offset;
        for (var d = 0; d < shape.Length; d++)
            last += (Int128)(shape[d] - 1) * stride[d];
        if (count > 0 && last >= storage.Count)
            throw BadView($"reaches element {last}, but the storage has {storage.Count}");
        if (count > storage.Count)
            throw BadView($"has {count} elements, more than the {storage.Count} of its storage; save an expanded tensor with contiguous()");
        return new(storage, shape, stride, offset, byteLength);

        MendException BadView(string reason) => Bad(
            $"tensor {storage.Type.Show(shape)} strides [{string.Join(", ", stride)}] at {offset} of storage '{storage.Key}' {reason}");
    }

    /// <summary>A tensor that was given attributes: (function that rebuilds it, its class, the function's arguments, attributes).</summary>
    private PickledTensor BuildOfType(object?[] args)
    {
        const string Function = "_rebuild_from_type_v2";
        if (args.Length < 2 || !ReferenceEquals(args[1], TensorClass) || ReferenceEquals(args[0], Known["torch._tensor." + Function]))
            throw Bad($"{Function} of {(args.Length < 2 ? "nothing" : Show(args[1]))}; only tensors and parameters are read");
        return Argument<KnownFunction>(args, 0, Function).Build(this, Argument<object?[]>(args, 2, Function)) as PickledTensor
            ?? throw Bad($"{Function} builds no tensor");
    }

    private long[] Numbers(object?[] tuple)
    {
        if (tuple.Length > RankLimit)
            throw Bad($"a tensor of {tuple.Length} dimensions; expected at most {RankLimit}");
        return Array.ConvertAll(tuple, item => item is long number
            ? number
            : throw Bad($"{Show(item)} in a tensor's shape or strides; expected an integer"));
    }

    private PickledStorage Storage(object? id)
    {
        // ("storage", class, key, location, count), and in files from before torch 1.6 a sixth: the view of another storage.
        if (id is not object?[] { Length: 5 or 6 } parts
            || parts is not ["storage", DType type, string key, string, long count, ..]
            || count < 0)
            throw Bad($"persistent id {Show(id)}; expected a storage of tensors");
        if (parts.Length == 6 && parts[5] is not null)
            throw Bad($"storage '{key}' is a view of another; save the file again with a torch since 0.4");
        return findStorage(new(type, key, count, _opcodeAt));
    }

    private T Argument<T>(object?[] args, int index, string function) => index < args.Length && args[index] is T value
        ? value
        : throw Bad($"argument {index} of {function}: {(index < args.Length ? Show(args[index]) : "missing")}, expected {typeof(T).Name}");

    // Containers.

    private static OrderedDictionary<object, object?> NewDictionary() => new(PickleKeys.Comparer);

    private void Append(ReadOnlySpan<object?> values)
    {
        var list = Peek() switch
        {
            List<object?> plain => plain,
            PickledObject inert => inert.Elements,
            var other => throw Bad($"APPENDS on {Show(other)}; expected a list"),
        };
        list.AddRange(values);
    }

    private void SetItems(object?[] keysAndValues)
    {
        var dictionary = Peek() switch
        {
            OrderedDictionary<object, object?> plain => plain,
            PickledObject inert => inert.Items,
            var other => throw Bad($"SETITEMS on {Show(other)}; expected a dict"),
        };
        if (keysAndValues.Length % 2 != 0)
            throw Bad($"SETITEMS with {keysAndValues.Length} values; expected keys and values in turn");
        for (var i = 0; i < keysAndValues.Length; i += 2)
            dictionary[Key(keysAndValues[i])] = keysAndValues[i + 1];
    }

    private HashSet<object> AddMembers(HashSet<object> set, IEnumerable<object?> members)
    {
        foreach (var member in members)
            set.Add(Key(member));
        return set;
    }

    private object Key(object? value) => value switch
    {
        null or List<object?> or OrderedDictionary<object, object?> or HashSet<object> =>
            throw Bad($"{Show(value)} as a key of a dict or set"),
        _ => value,
    };

    private void Build(object? state)
    {
        switch (Peek())
        {
            case PickledObject inert:
                inert.State = state;
                break;
            case OrderedDictionary<object, object?>:
                // Attributes of a state dict (its _metadata, module versions): nothing that a tensor needs.
                break;
            case var other:
                throw Bad($"BUILD on {Show(other)}; only objects and state dicts have attributes");
        }
    }

    // Stack and memo.

    private object? Peek() => _stack.Count > Floor ? _stack[^1] : throw Bad("a value is missing on the stack");

    private object? Pop()
    {
        var value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private object?[] PopMany(int count)
    {
        if (_stack.Count - count < Floor)
            throw Bad($"{count} values expected on the stack, {_stack.Count - Floor} found");
        return RemoveFrom(_stack.Count - count);
    }

    private object?[] PopToMark()
    {
        if (_marks.Count == 0)
            throw Bad("no mark on the stack");
        var from = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        return RemoveFrom(from);
    }

    private int Floor => _marks.Count > 0 ? _marks[^1] : 0;

    private object?[] RemoveFrom(int from)
    {
        var values = new object?[_stack.Count - from];
        _stack.CopyTo(from, values, 0, values.Length);
        _stack.RemoveRange(from, values.Length);
        return values;
    }

    private void Memoize(uint index)
    {
        // Picklers number consecutively, so an honest index is below its own offset; that also bounds the table.
        if (index > _opcodeAt)
            throw Bad($"memo index {index}; expected one below {_opcodeAt}");
        var value = Peek();
        while (_memo.Count <= index)
            _memo.Add(Unset);
        _memo[(int)index] = value;
    }

    private void Recall(uint index)
    {
        if (index >= _memo.Count || ReferenceEquals(_memo[(int)index], Unset))
            throw Bad($"memo index {index} was never set");
        _stack.Add(_memo[(int)index]);
    }

    private static readonly object Unset = new();

    // Input.

    private ReadOnlySpan<byte> Take(int length)
    {
        if (length > pickle.Length - _next)
            throw Bad($"{length} bytes are needed at offset {_next}, {pickle.Length - _next} are left; the file is cut");
        _next += length;
        return pickle.AsSpan(_next - length, length);
    }

    /// <summary>A length of so many bytes, refused unless that much input follows.</summary>
    private int TakeLength(int bytes)
    {
        ulong length = 0;
        var raw = Take(bytes);
        for (var i = bytes - 1; i >= 0; i--)
            length = length << 8 | raw[i];
        if (length > (ulong)(pickle.Length - _next))
            throw Bad($"a length of {length}, but {pickle.Length - _next} bytes are left; the file is cut or forged");
        return (int)length;
    }

    private string TakeLine()
    {
        var length = pickle.AsSpan(_next).IndexOf((byte)'\n');
        if (length < 0)
            throw Bad("a name without an end; the file is cut");
        var line = Text(Take(length));
        _next++;
        return line;
    }

    private string Text(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return Utf8.GetString(bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw Bad($"text that is not UTF-8: {e.Message}");
        }
    }

    private object Integer(int length)
    {
        if (length > LongIntegerLimit)
            throw Bad($"an integer of {length} bytes; expected at most {LongIntegerLimit}");
        var value = new BigInteger(Take(length));
        return value >= long.MinValue && value <= long.MaxValue ? (object)(long)value : value;
    }

    private void Spend(int values)
    {
        if (values > ValueLimit - _spent)
            throw Bad($"more than {ValueLimit} values; this is no model's checkpoint");
        _spent += values;
    }

    private static string Show(object? value) => value switch
    {
        null => "None",
        string text => $"the text '{(text.Length > 100 ? text[..100] : text)}'",
        bool or long or double or PickledGlobal or PickledObject => value.ToString()!,
        object?[] tuple => $"a tuple of {tuple.Length}",
        List<object?> list => $"a list of {list.Count}",
        OrderedDictionary<object, object?> dictionary => $"a dict of {dictionary.Count}",
        HashSet<object> set => $"a set of {set.Count}",
        PickledTensor tensor => $"a tensor {tensor.Type.Show(tensor.Shape)}",
        _ => value.GetType().Name,
    };

    private MendException Bad(string message) => Fault.File(file, $"pickle offset {_opcodeAt}", message);

    private sealed record KnownFunction(Func<Unpickler, object?[], object?> Build);

    /// <summary>Heights of containers, each visited once; so that whoever walks the result may recurse.</summary>
    private sealed class DepthCheck(Unpickler pickle)
    {
        private const int Open = -1;

        private readonly Dictionary<object, int> _heights = new(ReferenceEqualityComparer.Instance);

        public int Visit(object? value, int depth)
        {
            if (Children(value) is not { } children)
                return 0;
            if (!_heights.TryGetValue(value!, out var height))
            {
                Require(depth, value);
                _heights[value!] = Open;
                foreach (var child in children)
                    height = Math.Max(height, Visit(child, depth + 1));
                _heights[value!] = ++height;
            }
            if (height == Open)
                throw pickle.Bad($"{Show(value)} contains itself");
            Require(depth + height - 1, value);
            return height;
        }

        private void Require(int depth, object? value)
        {
            if (depth > DepthLimit)
                throw pickle.Bad($"{Show(value)} lies more than {DepthLimit} deep");
        }

        private static IEnumerable<object?>? Children(object? value) => value switch
        {
            object?[] tuple => tuple,
            List<object?> list => list,
            HashSet<object> set => set,
            OrderedDictionary<object, object?> dictionary => dictionary.Keys.Concat(dictionary.Values),
            PickledObject inert => [.. inert.Args, inert.State, .. inert.Elements, .. inert.Items.Keys, .. inert.Items.Values],
            _ => null,
        };
    }
}

/// <summary>A storage as a pickle names it. <paramref name="At"/> is the offset in the pickle.</summary>
internal sealed record StorageReference(DType Type, string Key, long Count, int At);
