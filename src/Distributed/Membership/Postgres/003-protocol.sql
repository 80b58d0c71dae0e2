-- What each silo speaks, which it says before it joins: one of another version does not join, and waits until those that are there have gone.
create table mend_protocol (
  cluster text not null,
  silo text not null, -- its name
  version integer not null,
  time timestamptz not null default now(),
  primary key (cluster, silo)
);
