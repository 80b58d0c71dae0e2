using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>Edits that wait for their turn, in the order of arrival.</summary>
/// <param name="most">That are made together, at most; 1: each is made alone.</param>
internal sealed class EditQueue(int most)
{
    private readonly Lock _lock = new();
    private readonly List<PendingEdit> _waiting = [];

    public void Add(PendingEdit edit)
    {
        lock (_lock)
            _waiting.Add(edit);
    }

    /// <summary>Edits that have to be made later than those of their group, before all that wait.</summary>
    public void PutBack(IReadOnlyList<PendingEdit> edits)
    {
        foreach (var edit in edits)
            edit.PutBack();
        lock (_lock)
            _waiting.InsertRange(0, edits);
    }

    /// <summary>
    /// The first edits that wait, as many as can be made together: of one scope, about different prompts, asked for under different keys.
    /// None of them can be cancelled by itself any more.
    /// </summary>
    public IReadOnlyList<PendingEdit> Take()
    {
        lock (_lock)
        {
            List<PendingEdit> group = [];
            var seen = 0;
            foreach (var edit in _waiting)
            {
                if (group.Count > 0 && (group.Count == most || !group.TrueForAll(edit.GoesWith)))
                    break;
                seen++;
                if (edit.TryTake())
                    group.Add(edit);
            }
            _waiting.RemoveRange(0, seen);
            return group;
        }
    }
}

/// <summary>An edit that was asked for and is not yet made.</summary>
/// <param name="row">Prompt and target in tokens.</param>
/// <param name="budget">What its figures are held against; null: nothing.</param>
/// <param name="since">When it was asked for, as the coordinator's clock counts.</param>
internal sealed class PendingEdit(TokenRow row, EditOptions options, DriftBudget? budget, long since, CancellationToken cancellation)
    : IDisposable
{
    private const int MaxHindered = 5;

    private readonly TaskCompletionSource<(EditReceipt Receipt, bool IsNew)> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Activity? _queue = Waits();
    private CancellationTokenRegistration _registration;
    private int _isTaken;

    public string Prompt => row.Prompt;

    public string Target => row.Target;

    public TokenRow Row => row;

    public EditOptions Options => options;

    public DriftBudget? Budget => budget;

    public CancellationToken Cancellation => cancellation;

    public long Since => since;

    /// <summary>Groups in which the others kept it from its target. After a few of them it is made alone.</summary>
    public int Hindered { get; set; }

    /// <summary>Of the request, to which the passes belong.</summary>
    public Activity? Span { get; } = Activity.Current;

    /// <summary>How it ended. An edit that was made by an earlier request with the same key is not new.</summary>
    public Task<(EditReceipt Receipt, bool IsNew)> End => _end.Task;

    /// <summary>From now on a cancellation ends the wait.</summary>
    public void Watch() => _registration = cancellation.Register(() =>
    {
        if (TryTake())
            _end.TrySetCanceled(cancellation);
    });

    public bool TryTake() => Interlocked.Exchange(ref _isTaken, 1) == 0;

    /// <summary>It waits again.</summary>
    public void PutBack()
    {
        Volatile.Write(ref _isTaken, 0);
        if (cancellation.IsCancellationRequested && TryTake())
            _end.TrySetCanceled(cancellation);
    }

    public bool GoesWith(PendingEdit other) => Math.Max(Hindered, other.Hindered) < MaxHindered && options.Scope == other.Options.Scope
        && !string.Equals(Prompt, other.Prompt, StringComparison.OrdinalIgnoreCase)
        && (options.IdempotencyKey is null || options.IdempotencyKey != other.Options.IdempotencyKey);

    public void Done(EditReceipt receipt, bool isNew) => _end.TrySetResult((receipt, isNew));

    public void Fail(Exception why)
    {
        if (why is OperationCanceledException cancelled)
            _end.TrySetCanceled(cancelled.CancellationToken);
        else
            _end.TrySetException(why);
    }

    /// <summary>Its turn has come.</summary>
    public void EndWaiting() => _queue?.Dispose();

    public void Dispose()
    {
        EndWaiting();
        _registration.Dispose();
    }

    /// <summary>A span that is not the current one: it ends elsewhere.</summary>
    private static Activity? Waits()
    {
        var request = Activity.Current;
        var waits = MendTracing.Start("queue");
        Activity.Current = request;
        return waits;
    }
}
