-- Microsoft.Orleans.Clustering.AdoNet 10.4 cleans up row by row where it finds this statement: a dead silo's row goes if it is still as it was
-- read, and rows of any other state stay. Without it, the statement of 001 removes every old row that is not active.
insert into OrleansQuery values

('CleanupDefunctSiloEntryKey', $$
delete from mend_silo
where cluster = @DeploymentId and address = @Address and port = @Port and generation = @Generation and status = 6
  and started = @StartTime and alive = @IAmAliveTime and coalesce(suspicions, '') = coalesce(@SuspectTimes, '')
$$);
