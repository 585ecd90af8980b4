-- Commands that run detached in containers of their own, and what they said.

CREATE TABLE runs (
    id        uuid PRIMARY KEY,
    instance  uuid NOT NULL REFERENCES instances,
    -- Who started it, as shown in the timeline.
    actor     text NOT NULL,
    command   text NOT NULL,
    -- Seconds after which it is ended.
    span      bigint NOT NULL,
    status    text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'ended', 'failed', 'stopped')),
    exit_code integer,
    -- Why there is no exit code.
    message   text,
    -- The gateway that waits for it, and takes it up again after a restart.
    gateway   uuid NOT NULL,
    started   timestamptz NOT NULL DEFAULT now(),
    ended     timestamptz
);
CREATE INDEX runs_instance_idx ON runs (instance, started);
CREATE INDEX runs_running_idx ON runs (gateway) WHERE status = 'running';

CREATE TABLE run_lines (
    run      uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    sequence bigint NOT NULL,
    line     text NOT NULL,
    PRIMARY KEY (run, sequence)
);
