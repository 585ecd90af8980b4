-- Organisations and people, apps and instances, nodes and what they prove themselves with, values, the timeline.

CREATE TABLE organisations (
    id      uuid PRIMARY KEY,
    name    text NOT NULL CONSTRAINT organisations_name_key UNIQUE,
    created timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people (
    id           uuid PRIMARY KEY,
    organisation uuid NOT NULL REFERENCES organisations,
    name         text NOT NULL CONSTRAINT people_name_key UNIQUE,
    created      timestamptz NOT NULL DEFAULT now()
);

-- Of a token only the SHA-256 is kept.
CREATE TABLE tokens (
    hash      bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    person    uuid NOT NULL REFERENCES people,
    label     text NOT NULL,
    created   timestamptz NOT NULL DEFAULT now(),
    last_used timestamptz,
    expires   timestamptz
);
CREATE INDEX tokens_person_idx ON tokens (person);

CREATE TABLE apps (
    id             uuid PRIMARY KEY,
    organisation   uuid NOT NULL REFERENCES organisations,
    name           text NOT NULL,
    -- Rises with every change of a value, so that a release can say which values it saw.
    config_version bigint NOT NULL DEFAULT 0,
    created        timestamptz NOT NULL DEFAULT now(),
    destroyed      timestamptz
);
CREATE UNIQUE INDEX apps_name_key ON apps (name) WHERE destroyed IS NULL;

-- User ids of instances on their nodes. Never given twice: files of a destroyed instance may still lie in a backup.
CREATE SEQUENCE instance_uids AS integer MINVALUE 200000 START 200000 MAXVALUE 2000000000;

CREATE TABLE instances (
    id        uuid PRIMARY KEY,
    app       uuid NOT NULL REFERENCES apps,
    label     text NOT NULL,
    cluster   text NOT NULL,
    uid       integer NOT NULL DEFAULT nextval('instance_uids') CONSTRAINT instances_uid_key UNIQUE,
    created   timestamptz NOT NULL DEFAULT now(),
    destroyed timestamptz
);
CREATE UNIQUE INDEX instances_place_key ON instances (app, label, cluster) WHERE destroyed IS NULL;

-- Passwords and the like that the platform makes for an instance.
CREATE TABLE instance_secrets (
    instance uuid NOT NULL REFERENCES instances,
    key      text NOT NULL,
    sealed   bytea NOT NULL,
    created  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, key)
);

CREATE TABLE nodes (
    cluster            text NOT NULL,
    name               text NOT NULL,
    -- The one certificate that is accepted, in hex; a new enrolment replaces it.
    certificate_serial text NOT NULL,
    enrolled           timestamptz NOT NULL DEFAULT now(),
    last_seen          timestamptz,
    -- The last observation that was stored.
    acknowledged       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (cluster, name)
);

CREATE TABLE node_tokens (
    hash    bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    cluster text NOT NULL,
    node    text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    expires timestamptz NOT NULL,
    used    timestamptz
);

CREATE TABLE certificates (
    name       text PRIMARY KEY,
    chain      text NOT NULL,
    sealed_key bytea NOT NULL,
    subjects   text[] NOT NULL,
    expires    timestamptz NOT NULL,
    updated    timestamptz NOT NULL DEFAULT now(),
    person     uuid NOT NULL REFERENCES people
);

-- label IS NULL: for all labels of the app.
CREATE TABLE config_values (
    app     uuid NOT NULL REFERENCES apps,
    label   text,
    key     text NOT NULL,
    sealed  bytea NOT NULL,
    version bigint NOT NULL,
    person  uuid NOT NULL REFERENCES people,
    updated timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT config_values_key UNIQUE NULLS NOT DISTINCT (app, label, key)
);

CREATE TABLE timeline (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    person  uuid REFERENCES people,
    actor   text NOT NULL,
    action  text NOT NULL,
    app     text,
    label   text,
    cluster text,
    message text NOT NULL
);
CREATE INDEX timeline_app_idx ON timeline (app, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER timeline_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON timeline
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
