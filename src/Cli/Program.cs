using MendCluster.Cli;

return await CommandLine.RunAsync(args);
