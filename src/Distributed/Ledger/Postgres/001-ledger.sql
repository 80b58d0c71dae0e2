-- The ledger of any number of models. Rows are only ever added: the triggers below refuse everything else, to the owner as well.

create table mend_schema (
  version integer primary key,
  time timestamptz not null default now()
);

-- Coordinators, in the order in which they opened a model's ledger. The last one has it.
create table mend_epoch (
  model bytea not null check (octet_length(model) = 32),
  epoch bigint not null,
  holder text not null,
  time timestamptz not null default now(),
  primary key (model, epoch)
);

create table mend_record (
  model bytea not null check (octet_length(model) = 32),
  version bigint not null,
  epoch bigint not null,
  time timestamptz not null,
  kind text not null,
  edit bigint not null,
  mode text,
  prompt text,
  target text,
  scope text,
  author text,
  idempotency_key text,
  idempotency_sha256 bytea, -- unique in place of the key, which may be longer than an index takes
  figures jsonb,
  entry_bytes integer not null,
  record bytea not null,
  primary key (model, version),
  constraint mend_record_idempotency unique (model, idempotency_sha256)
);

-- Not compressed: floats hardly shrink, and the entry at a record's beginning can be read without the factors behind it.
alter table mend_record alter column record set storage external;

-- One transaction at a time for each model, until it ends. A client that is cut off in the middle of one is not waited for long.
create function mend_lock(model bytea) returns void language plpgsql set search_path from current as $$
begin
  perform set_config('lock_timeout', '15s', true), set_config('idle_in_transaction_session_timeout', '5s', true);
  perform pg_advisory_xact_lock(('x' || encode(substring(model from 1 for 8), 'hex'))::bit(64)::bigint);
end $$;

create function mend_take() returns trigger language plpgsql set search_path from current as $$
begin
  perform mend_lock(new.model);
  select coalesce(max(epoch), 0) + 1 into new.epoch from mend_epoch where model = new.model;
  return new;
end $$;

-- The fence. After the lock every query sees all that was committed, which only 'read committed' gives.
create function mend_append() returns trigger language plpgsql set search_path from current as $$
declare
  newest mend_epoch;
  last bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a record is appended in a transaction that is read committed';
  end if;
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true); -- a commit that does not wait for the disk is none
  end if;
  perform mend_lock(new.model);
  select * into newest from mend_epoch where model = new.model order by epoch desc limit 1;
  select coalesce(max(version), 0) into last from mend_record where model = new.model;
  if newest.epoch is distinct from new.epoch then
    raise exception 'the ledger was taken over by % at %', newest.holder, newest.time using errcode = 'ME001';
  elsif new.version <> last + 1 then
    raise exception 'the ledger is at version % already', last using errcode = 'ME001';
  end if;
  return new;
end $$;

create function mend_refuse() returns trigger language plpgsql as $$
begin
  raise exception '% of %: the ledger is only ever added to', tg_op, tg_table_name using errcode = 'ME002';
end $$;

create trigger take before insert on mend_epoch for each row execute function mend_take();
create trigger append before insert on mend_record for each row execute function mend_append();
create trigger refuse before update or delete or truncate on mend_schema for each statement execute function mend_refuse();
create trigger refuse before update or delete or truncate on mend_epoch for each statement execute function mend_refuse();
create trigger refuse before update or delete or truncate on mend_record for each statement execute function mend_refuse();
