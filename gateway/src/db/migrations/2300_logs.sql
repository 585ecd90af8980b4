-- Where logs are sent to.
CREATE TABLE drains (
    id uuid PRIMARY KEY,
    instance uuid NOT NULL REFERENCES instances (id),
    -- As it is shown: without what is secret in it.
    target text NOT NULL,
    -- The address as it was given, and the CA, if any.
    sealed bytea NOT NULL,
    layers text[] NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    -- Everything up to here was taken by the sink.
    places text NOT NULL DEFAULT '',
    delivered bigint NOT NULL DEFAULT 0,
    failing_since timestamptz,
    error text,
    -- The gateway that serves it, and until when the others believe that it does.
    gateway uuid,
    lease timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX drains_by_instance ON drains (instance);
