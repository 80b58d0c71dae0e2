-- Who is in a cluster. Silos read and change it through the statements at the end, which Microsoft.Orleans.Clustering.AdoNet takes from the
-- table that it expects; the names of their parameters and of what they return are its own.

create table mend_membership_schema (
  version integer primary key,
  time timestamptz not null default now()
);

-- The version goes up by one with every change of a silo's state, and only for a silo that has read the one before: of silos that saw the same, one wins.
create table mend_cluster (
  id text primary key,
  version integer not null default 0
);

create table mend_silo (
  cluster text not null references mend_cluster on delete cascade,
  address text not null,
  port integer not null,
  generation integer not null, -- tells a silo from the one that was at its address before
  name text not null,
  host text not null,
  gateway_port integer not null, -- for clients; 0: takes none
  status integer not null, -- 1 created, 2 joining, 3 active, 4 shutting down, 5 stopping, 6 dead
  suspicions text, -- by which silos, and when
  started timestamptz not null,
  alive timestamptz not null,
  primary key (cluster, address, port, generation)
);

create view mend_member as
  select cluster, address, port, generation, name as SiloName, host as HostName, gateway_port as ProxyPort, status, suspicions as SuspectTimes, started as StartTime, alive as IAmAliveTime
  from mend_silo;

create table OrleansQuery (
  QueryKey text primary key,
  QueryText text not null
);

insert into OrleansQuery values

('GatewaysQueryKey', $$
select address, ProxyPort, generation from mend_member where cluster = @DeploymentId and status = @Status and ProxyPort > 0
$$),

-- One row at least, with the version, whether there is a silo or not.
('MembershipReadAllKey', $$
select version, mend_member.* from mend_cluster left join mend_member on cluster = id where id = @DeploymentId
$$),

('MembershipReadRowKey', $$
select version, mend_member.* from mend_cluster
left join mend_member on cluster = id and address = @Address and port = @Port and generation = @Generation
where id = @DeploymentId
$$),

('InsertMembershipVersionKey', $$
with made as (insert into mend_cluster (id) values (@DeploymentId) on conflict do nothing returning id)
select exists (select from made)
$$),

('InsertMembershipKey', $$
with turn as (
  update mend_cluster set version = version + 1
  where id = @DeploymentId and version = @Version
    and not exists (select from mend_silo where cluster = id and address = @Address and port = @Port and generation = @Generation)
  returning id),
joined as (
  insert into mend_silo (cluster, address, port, generation, name, host, gateway_port, status, started, alive)
  select id, @Address, @Port, @Generation, @SiloName, @HostName, @ProxyPort, @Status, @StartTime, @IAmAliveTime from turn
  returning cluster)
select exists (select from joined)
$$),

('UpdateMembershipKey', $$
with turn as (
  update mend_cluster set version = version + 1
  where id = @DeploymentId and version = @Version
    and exists (select from mend_silo where cluster = id and address = @Address and port = @Port and generation = @Generation)
  returning id),
changed as (
  update mend_silo set status = @Status, suspicions = @SuspectTimes, alive = @IAmAliveTime from turn
  where cluster = id and address = @Address and port = @Port and generation = @Generation
  returning cluster)
select exists (select from changed)
$$),

('UpdateIAmAlivetimeKey', $$
update mend_silo set alive = @IAmAliveTime
where cluster = @DeploymentId and address = @Address and port = @Port and generation = @Generation
$$),

('CleanupDefunctSiloEntriesKey', $$
delete from mend_silo where cluster = @DeploymentId and status <> 3 and started < @IAmAliveTime and alive < @IAmAliveTime
$$),

('DeleteMembershipTableEntriesKey', $$
delete from mend_cluster where id = @DeploymentId
$$);
