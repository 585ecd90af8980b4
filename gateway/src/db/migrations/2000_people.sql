-- People, what they prove themselves with, and what they may do.

ALTER TABLE organisations DROP CONSTRAINT organisations_name_key, ADD COLUMN removed timestamptz;
CREATE UNIQUE INDEX organisations_name_key ON organisations (name) WHERE removed IS NULL;

ALTER TABLE people DROP CONSTRAINT people_name_key,
    ADD COLUMN full_name text NOT NULL DEFAULT '',
    ADD COLUMN removed timestamptz;
CREATE UNIQUE INDEX people_name_key ON people (name) WHERE removed IS NULL;

ALTER TABLE tokens ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT tokens_id_key UNIQUE,
    ADD COLUMN kind text NOT NULL DEFAULT 'token' CHECK (kind IN ('token', 'session')),
    -- The grants that it is limited to; null: whatever its person may.
    ADD COLUMN limits jsonb;

CREATE TABLE ssh_keys (
    id          uuid PRIMARY KEY,
    person      uuid NOT NULL REFERENCES people,
    name        text NOT NULL,
    -- As in `ssh-ed25519`.
    algorithm   text NOT NULL,
    -- `SHA256:…`, as ssh-keygen prints it.
    fingerprint text NOT NULL CONSTRAINT ssh_keys_fingerprint_key UNIQUE,
    -- The OpenSSH form without a comment.
    public      text NOT NULL,
    created     timestamptz NOT NULL DEFAULT now(),
    last_used   timestamptz
);
CREATE INDEX ssh_keys_person_idx ON ssh_keys (person);

CREATE TABLE teams (
    id           uuid PRIMARY KEY,
    organisation uuid NOT NULL REFERENCES organisations,
    name         text NOT NULL,
    created      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT teams_name_key UNIQUE (organisation, name)
);
CREATE TABLE team_members (
    team   uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
    person uuid NOT NULL REFERENCES people ON DELETE CASCADE,
    PRIMARY KEY (team, person)
);
CREATE INDEX team_members_person_idx ON team_members (person);

-- A role of a person, a team, or an organisation that something is shared with; on the whole platform, an organisation,
-- an app or one of its labels.
CREATE TABLE grants (
    id           uuid PRIMARY KEY,
    person       uuid REFERENCES people ON DELETE CASCADE,
    team         uuid REFERENCES teams ON DELETE CASCADE,
    shared_with  uuid REFERENCES organisations ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('viewer', 'developer', 'operator', 'administrator', 'accountant')),
    organisation uuid REFERENCES organisations ON DELETE CASCADE,
    app          uuid REFERENCES apps ON DELETE CASCADE,
    label        text,
    created      timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(person, team, shared_with) = 1),
    CHECK (num_nonnulls(organisation, app) <= 1),
    CHECK (label IS NULL OR app IS NOT NULL),
    -- Only apps are shared.
    CHECK (shared_with IS NULL OR app IS NOT NULL),
    CONSTRAINT grants_key UNIQUE NULLS NOT DISTINCT (person, team, shared_with, role, organisation, app, label)
);
CREATE INDEX grants_person_idx ON grants (person);
CREATE INDEX grants_team_idx ON grants (team);
CREATE INDEX grants_shared_idx ON grants (shared_with);
CREATE INDEX grants_app_idx ON grants (app);

INSERT INTO grants (id, person, role)
    SELECT gen_random_uuid(), p.id, 'administrator' FROM people p JOIN organisations o ON o.id = p.organisation
    WHERE o.name = 'operator' AND p.name = 'admin';

CREATE TABLE invitations (
    id           uuid PRIMARY KEY,
    hash         bytea NOT NULL CONSTRAINT invitations_hash_key UNIQUE CHECK (octet_length(hash) = 32),
    organisation uuid NOT NULL REFERENCES organisations ON DELETE CASCADE,
    name         text NOT NULL,
    -- The grants that the person will have.
    grants       jsonb NOT NULL,
    invited_by   uuid NOT NULL REFERENCES people,
    created      timestamptz NOT NULL DEFAULT now(),
    expires      timestamptz NOT NULL,
    used         timestamptz
);
CREATE UNIQUE INDEX invitations_open_key ON invitations (name) WHERE used IS NULL;

-- What was signed once is not signed for again.
CREATE TABLE used_challenges (
    hash bytea PRIMARY KEY,
    used timestamptz NOT NULL DEFAULT now()
);

-- organisation IS NULL: the operator's, which all may use.
CREATE TABLE access_lists (
    id           uuid PRIMARY KEY,
    organisation uuid REFERENCES organisations ON DELETE CASCADE,
    name         text NOT NULL,
    entries      text[] NOT NULL,
    updated      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT access_lists_key UNIQUE NULLS NOT DISTINCT (organisation, name)
);

-- From where a door of the gateway may be used: by everybody, or by the people of one organisation.
CREATE TABLE door_lists (
    door         text NOT NULL CHECK (door IN ('api', 'ssh')),
    organisation uuid REFERENCES organisations ON DELETE CASCADE,
    -- Names of lists, or addresses.
    entries      text[] NOT NULL,
    CONSTRAINT door_lists_key UNIQUE NULLS NOT DISTINCT (door, organisation)
);

-- Rises with every change of people, keys, grants or lists: gateways look at it every second.
CREATE TABLE access_state (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL DEFAULT 1
);
INSERT INTO access_state DEFAULT VALUES;
CREATE FUNCTION raise_access_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE access_state SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER access_changed AFTER UPDATE OF removed ON organisations FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER UPDATE OF removed ON people FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER DELETE ON tokens FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER DELETE ON ssh_keys FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE ON team_members FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE ON grants FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE ON access_lists FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE ON door_lists FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();

-- A certificate belongs to an organisation; the operator's may be used by all.
ALTER TABLE certificates ADD COLUMN organisation uuid REFERENCES organisations;
UPDATE certificates c SET organisation = p.organisation FROM people p WHERE p.id = c.person;
ALTER TABLE certificates ALTER COLUMN organisation SET NOT NULL;

-- Whose a line of the timeline is: names are given again, ids never.
ALTER TABLE timeline ADD COLUMN address text, ADD COLUMN organisation uuid, ADD COLUMN app_id uuid;
CREATE INDEX timeline_organisation_idx ON timeline (organisation, id);
CREATE INDEX timeline_app_id_idx ON timeline (app_id, id);
