-- What instances used, by the hour (UTC). Rows outlive their instances, which are never deleted.
CREATE TABLE usage_hours (
    instance   uuid NOT NULL REFERENCES instances,
    hour       timestamptz NOT NULL,
    requests   bigint NOT NULL DEFAULT 0,
    received   bigint NOT NULL DEFAULT 0,
    sent       bigint NOT NULL DEFAULT 0,
    egress     bigint NOT NULL DEFAULT 0,
    -- Milliseconds.
    cpu        bigint NOT NULL DEFAULT 0,
    -- Bytes for seconds.
    memory     bigint NOT NULL DEFAULT 0,
    files      bigint NOT NULL DEFAULT 0,
    code       bigint NOT NULL DEFAULT 0,
    database   bigint NOT NULL DEFAULT 0,
    backups    bigint NOT NULL DEFAULT 0,
    logs       bigint NOT NULL DEFAULT 0,
    -- Of the requests.
    status_1xx integer NOT NULL DEFAULT 0,
    status_2xx integer NOT NULL DEFAULT 0,
    status_3xx integer NOT NULL DEFAULT 0,
    status_4xx integer NOT NULL DEFAULT 0,
    status_5xx integer NOT NULL DEFAULT 0,
    hits       integer NOT NULL DEFAULT 0,
    misses     integer NOT NULL DEFAULT 0,
    https      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, hour)
) WITH (fillfactor = 85);
-- Rows come in the order of their hours, so this small index finds a month.
CREATE INDEX usage_hours_hour_idx ON usage_hours USING brin (hour) WITH (pages_per_range = 32);

-- How far each node's ledger is in them.
CREATE TABLE usage_ledgers (
    ledger  uuid PRIMARY KEY,
    cluster text NOT NULL,
    node    text NOT NULL,
    number  bigint NOT NULL,
    -- Requests that the node's router refused before they were any instance's.
    refused bigint NOT NULL DEFAULT 0,
    updated timestamptz NOT NULL DEFAULT now()
);

-- How much disk each instance takes at present, in bytes, by metric.
CREATE TABLE usage_levels (
    instance uuid NOT NULL REFERENCES instances,
    metric   text NOT NULL,
    bytes    bigint NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (instance, metric)
);

-- Times in which something may not have been counted.
CREATE TABLE usage_gaps (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster  text NOT NULL,
    node     text NOT NULL,
    began    timestamptz NOT NULL,
    ended    timestamptz NOT NULL,
    reason   text NOT NULL,
    requests bigint,
    noted    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_gaps_ended_idx ON usage_gaps (ended);

-- Nodes speak of instances by the names of their resources.
CREATE INDEX instances_slug_idx ON instances (('i' || right(replace(id::text, '-', ''), 12)));
