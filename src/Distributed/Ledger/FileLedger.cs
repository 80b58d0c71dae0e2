using System.Buffers.Binary;
using MendCluster.Contracts;
using MendCluster.Engine.Files;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// A ledger in one file, for one process.
///
/// Promise: a record whose append returned is there after any crash, whole; a record whose append did not return is there whole or not at
/// all. Records are appended and flushed to the disk one at a time, each behind its length and CRC-32C. A crash in the middle of an append
/// leaves a torn tail: a last frame that is cut short, or whose bytes do not match its checksum and that nothing follows. It was never
/// answered as done, so opening cuts it off. A frame that does not match and is followed by others is damage to something that was
/// durable: opening refuses, naming the offset, and changes nothing. The file is held open with an exclusive lock.
/// </summary>
public sealed class FileLedger : IEditLedger
{
    private readonly FileStream _stream;
    private readonly List<(LedgerEntry Entry, long Offset)> _index = [];
    private readonly SemaphoreSlim _turn = new(1);
    private volatile LedgerEntry[] _entries = [];
    private bool _broken;

    private FileLedger(FileStream stream) => _stream = stream;

    public IReadOnlyList<LedgerEntry> Entries => _entries;

    /// <summary>Bytes of a torn tail that were cut off when the file was opened.</summary>
    public long CutBytes { get; private set; }

    /// <summary>Opens the file, or starts it.</summary>
    /// <param name="fingerprint">Of the model; 32 bytes.</param>
    /// <exception cref="MendException">Damaged, another model's, or in use.</exception>
    public static FileLedger Open(string path, ReadOnlySpan<byte> fingerprint)
    {
        FileStream stream;
        try
        {
            if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder)
                Directory.CreateDirectory(folder);
            stream = new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (OwnFolder.IsInUse(e))
        {
            throw new MendException(MendError.LedgerInUse, $"Ledger {path} cannot be opened: {e.Message}",
                "One process at a time may have a ledger open; stop the other one or name another file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw CannotBeOpened(path, e);
        }
        var ledger = new FileLedger(stream);
        try
        {
            ledger.ReadAll(fingerprint);
            return ledger;
        }
        // a device, or a disk that is full
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            stream.Dispose();
            throw CannotBeOpened(path, e);
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    public async Task AppendAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
    {
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var expected = (_index.Count == 0 ? ModelVersion.Base : _index[^1].Entry.Version).Next();
            foreach (var record in records)
            {
                if (record.Entry.Version != expected)
                    throw new InvalidOperationException($"version {record.Entry.Version} cannot follow; the next is {expected}");
                expected = expected.Next();
            }
            if (_broken)
                throw WriteFailed(new IOException("an earlier write failed and could not be undone"));
            var (frames, offset) = (records.Select(LedgerRecordFormat.Frame).ToList(), _stream.Length);
            try
            {
                _stream.Position = offset;
                foreach (var frame in frames)
                    _stream.Write(frame); // not cancellable: half a record is worth nothing
                _stream.Flush(flushToDisk: true);
            }
            catch (IOException e)
            {
                TryCut(offset);
                throw WriteFailed(e);
            }
            foreach (var (record, frame) in records.Zip(frames))
            {
                _index.Add((record.Entry, offset));
                offset += frame.Length;
            }
            _entries = [.. _index.Select(item => item.Entry)];
        }
        finally
        {
            _turn.Release();
        }
    }

    public async Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default)
    {
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            return [.. _index.Where(item => item.Entry.Version > version).Select(item =>
            {
                var payload = Payload(item.Offset, _stream.Length, out var problem)
                    ?? throw LedgerRecordFormat.Unusable(_stream.Name, item.Offset, problem,
                        "The disk changed under a running process; restore the file.");
                return LedgerRecordFormat.Read(payload, LedgerRecordFormat.Place(_stream.Name, item.Offset));
            })];
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Waits for an append that is under way: until it ends, the file is locked and nobody can open it anew.</summary>
    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync().ConfigureAwait(false);
        await _stream.DisposeAsync().ConfigureAwait(false);
        _turn.Release(); // not disposed of: whoever comes too late is to find the file closed
    }

    private void ReadAll(ReadOnlySpan<byte> fingerprint)
    {
        var length = _stream.Length;
        if (length < LedgerRecordFormat.HeaderLength)
        {
            CheckTornHeader(fingerprint, (int)length);
            _stream.SetLength(0);
            _stream.Write(LedgerRecordFormat.Header(fingerprint));
            _stream.Flush(flushToDisk: true);
            return;
        }
        var header = new byte[LedgerRecordFormat.HeaderLength];
        _stream.Position = 0;
        _stream.ReadExactly(header);
        LedgerRecordFormat.CheckHeader(header, fingerprint, _stream.Name);
        var offset = (long)LedgerRecordFormat.HeaderLength;
        while (offset < length)
        {
            if (Payload(offset, length, out var problem) is not { } payload)
            {
                if (!IsTornTail(offset, length))
                    throw LedgerRecordFormat.Unusable(_stream.Name, offset, problem,
                        "A durable record is damaged: restore the file from a copy. Nothing was changed.");
                CutBytes = length - offset;
                _stream.SetLength(offset);
                _stream.Flush(flushToDisk: true);
                break;
            }
            var record = LedgerRecordFormat.Read(payload, LedgerRecordFormat.Place(_stream.Name, offset));
            var expected = (_index.Count == 0 ? ModelVersion.Base : _index[^1].Entry.Version).Next();
            if (record.Entry.Version != expected)
                throw LedgerRecordFormat.Unusable(_stream.Name, offset, $"holds version {record.Entry.Version} where {expected} is due",
                    "Restore the file from a copy.");
            _index.Add((record.Entry, offset));
            offset += LedgerRecordFormat.FrameLength + payload.Length;
        }
        _entries = [.. _index.Select(item => item.Entry)];
    }

    /// <summary>
    /// A file cut within its header is a ledger whose first opening was interrupted, if what is there is the header's beginning.
    /// </summary>
    private void CheckTornHeader(ReadOnlySpan<byte> fingerprint, int length)
    {
        var found = new byte[length];
        _stream.Position = 0;
        _stream.ReadExactly(found);
        if (!LedgerRecordFormat.Header(fingerprint).AsSpan(0, length).SequenceEqual(found))
            throw LedgerRecordFormat.Unusable(_stream.Name, 0, $"holds {length} bytes that do not begin a ledger of this model",
                "Name another file.");
    }

    /// <summary>The checked payload of the frame at an offset, or null and what is wrong with it.</summary>
    private byte[]? Payload(long offset, long length, out string problem)
    {
        problem = "";
        if (length - offset < LedgerRecordFormat.FrameLength)
        {
            problem = $"{length - offset} bytes are no record";
            return null;
        }
        var frame = new byte[LedgerRecordFormat.FrameLength];
        _stream.Position = offset;
        _stream.ReadExactly(frame);
        var size = BinaryPrimitives.ReadInt32LittleEndian(frame); // 0 in a tail of zeros, whose checksum would be right
        if (size is <= 0 or > LedgerRecordFormat.MaxPayload || size > length - offset - frame.Length)
        {
            problem = $"a record of {size} bytes is announced, {length - offset - frame.Length} follow";
            return null;
        }
        var payload = new byte[size];
        _stream.ReadExactly(payload);
        var (expected, found) = (BinaryPrimitives.ReadUInt32LittleEndian(frame.AsSpan(4)), LedgerRecordFormat.Checksum(payload));
        if (expected == found)
            return payload;
        problem = $"the checksum is {found:X8}, the record says {expected:X8}";
        return null;
    }

    /// <summary>
    /// Whether nothing whole comes after the bad frame. A torn append can only be the last thing in the file, so any valid frame behind it
    /// means damage. The length field itself may be what is damaged, so every later offset is looked at.
    /// </summary>
    private bool IsTornTail(long offset, long length)
    {
        const int head = LedgerRecordFormat.FrameHead;
        var window = new byte[1 << 20];
        for (var start = offset + 1; length - start >= head; start += window.Length - head + 1)
        {
            var bytes = window.AsSpan(0, (int)Math.Min(window.Length, length - start));
            _stream.Position = start;
            _stream.ReadExactly(bytes);
            for (var i = 0; i + head <= bytes.Length; i++)
                if (LedgerRecordFormat.MayBeFrame(bytes.Slice(i, head)) && Payload(start + i, length, out _) is not null)
                    return false;
        }
        return true;
    }

    private static MendException CannotBeOpened(string path, Exception e) =>
        new(MendError.LedgerUnusable, $"Ledger {path} cannot be opened: {e.Message}",
        "Name a file, not a directory, that this process may read and write, on a disk with room: mend's option is --ledger.", e);

    private void TryCut(long offset)
    {
        try
        {
            _stream.SetLength(offset);
            _stream.Flush(flushToDisk: true);
        }
        catch (IOException)
        {
            _broken = true; // no further append: it would follow half a record
        }
    }

    private MendException WriteFailed(IOException e) => new(MendError.LedgerWriteFailed,
        $"Ledger {_stream.Name} could not be written: {e.Message}", "The edit was not made. Check the disk, then send it again.", e);
}
