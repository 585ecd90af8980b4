-- Releases of instances, the plans that lay them out, and the deploys that bring them.

CREATE TABLE releases (
    instance uuid NOT NULL REFERENCES instances (id),
    number integer NOT NULL CHECK (number > 0),
    -- The image's id.
    image text NOT NULL,
    size bigint NOT NULL,
    -- SHA-256 of the normalised source.
    source text NOT NULL,
    -- The label's merged configuration.
    resolved jsonb NOT NULL,
    -- The app's config values that were in force.
    config_version bigint NOT NULL,
    commit text,
    message text,
    author text,
    -- made: never served; served: could be rolled back to; failed; pruned: its image is gone.
    state text NOT NULL DEFAULT 'made' CHECK (state IN ('made', 'served', 'failed', 'pruned')),
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, number)
);

CREATE TABLE plans (
    instance uuid NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    release integer NOT NULL,
    parent text,
    hash text NOT NULL,
    body jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, generation),
    FOREIGN KEY (instance, release) REFERENCES releases (instance, number)
);
CREATE INDEX plans_by_release ON plans (instance, release, generation DESC);

CREATE TABLE cluster_plans (
    cluster text NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    parent text,
    hash text NOT NULL,
    body jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, generation)
);

-- What each instance serves: moves in the moment in which routing has switched.
CREATE TABLE serving (
    instance uuid PRIMARY KEY REFERENCES instances (id),
    release integer NOT NULL,
    generation bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (instance, generation) REFERENCES plans (instance, generation)
);

-- A host (or `*.domain`) belongs to one instance of a cluster.
CREATE TABLE hosts (
    cluster text NOT NULL,
    host text NOT NULL,
    instance uuid NOT NULL REFERENCES instances (id),
    PRIMARY KEY (cluster, host)
);
CREATE INDEX hosts_by_instance ON hosts (instance);

CREATE TABLE deploys (
    id uuid PRIMARY KEY,
    instance uuid NOT NULL REFERENCES instances (id),
    actor text NOT NULL,
    status text NOT NULL CHECK (status IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    phase text NOT NULL,
    -- Routing was seen to have switched: it can only be completed now.
    committed boolean NOT NULL DEFAULT false,
    release integer,
    image text,
    source text NOT NULL,
    info jsonb NOT NULL,
    idempotency_key text,
    urls jsonb NOT NULL DEFAULT '[]',
    serving jsonb,
    failure jsonb,
    -- The draft of an instance's first plan: what may have been laid before there was a release.
    ground jsonb,
    -- Who asked for it to stop.
    cancelled_by text,
    -- The gateway that runs it, and until when the others believe that it does.
    gateway uuid NOT NULL,
    lease timestamptz NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    finished timestamptz
);
-- The lock: one deploy of an instance runs at a time.
CREATE UNIQUE INDEX deploys_one_running ON deploys (instance) WHERE status = 'running';
CREATE UNIQUE INDEX deploys_by_key ON deploys (instance, idempotency_key);
CREATE INDEX deploys_unfinished ON deploys (gateway) WHERE status IN ('waiting', 'running');
CREATE INDEX deploys_by_instance ON deploys (instance, created DESC);

CREATE TABLE deploy_steps (
    deploy uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    phase text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    detail text,
    PRIMARY KEY (deploy, phase)
);

CREATE TABLE deploy_events (
    deploy uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    sequence bigint NOT NULL,
    at timestamptz NOT NULL,
    event jsonb NOT NULL,
    PRIMARY KEY (deploy, sequence)
);
