using System.Reflection;
using Xunit;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace MendCluster.Runner;

/// <summary>The tests of one assembly, found and run in this process by xunit's own framework.</summary>
internal static class TestRun
{
    /// <summary>Ends when the last test has.</summary>
    public static void Of(Assembly assembly, Func<ITestCase, bool> wanted, Tally tally)
    {
        using var framework = new XunitTestFramework(new Sink(_ => { }));
        using var discoverer = framework.GetDiscoverer(Reflector.Wrap(assembly));
        var found = new List<ITestCase>();
        using var complete = new ManualResetEventSlim();
        discoverer.Find(includeSourceInformation: false, new Sink(message =>
        {
            if (message is ITestCaseDiscoveryMessage discovered)
                found.Add(discovered.TestCase);
            else if (message is IDiscoveryCompleteMessage)
                complete.Set();
        }), new Options());
        complete.Wait();

        using var executor = framework.GetExecutor(assembly.GetName());
        using var finished = new ManualResetEventSlim();
        executor.RunTests(found.Where(wanted), new Sink(message =>
        {
            tally.Take(message);
            if (message is ITestAssemblyFinished)
                finished.Set();
        }), new Options());
        finished.Wait();
    }

    private sealed class Sink(Action<IMessageSinkMessage> take) : LongLivedMarshalByRefObject, IMessageSink
    {
        private readonly Lock _lock = new();

        public bool OnMessage(IMessageSinkMessage message)
        {
            lock (_lock)
                take(message);
            return true;
        }
    }

    /// <summary>xunit's defaults.</summary>
    private sealed class Options : ITestFrameworkDiscoveryOptions, ITestFrameworkExecutionOptions
    {
        public TValue GetValue<TValue>(string name) => default!;

        public void SetValue<TValue>(string name, TValue value) => throw new NotSupportedException(name);
    }
}

/// <summary>Counts, and writes down what failed and what was skipped.</summary>
internal sealed class Tally(TextWriter output)
{
    public int Passed { get; private set; }

    public int Failed { get; private set; }

    public int Skipped { get; private set; }

    public void Take(IMessageSinkMessage message)
    {
        switch (message)
        {
            case ITestPassed:
                Passed++;
                break;
            case ITestSkipped skipped:
                Skipped++;
                output.WriteLine($"skipped {skipped.Test.DisplayName}: {skipped.Reason}");
                break;
            case ITestFailed failed:
                Failed++;
                output.WriteLine($"FAILED {failed.Test.DisplayName}");
                Why(failed);
                break;
            case IErrorMessage error: // outside of any test: a class's fixture, clean-up, the assembly itself
                Failed++;
                output.WriteLine($"FAILED {message.GetType().Name}");
                Why(error);
                break;
        }
    }

    private void Why(IFailureInformation failure)
    {
        foreach (var (type, text, stack) in failure.ExceptionTypes.Zip(failure.Messages, failure.StackTraces))
            output.WriteLine($"  {type}: {text}\n{stack}");
    }
}
