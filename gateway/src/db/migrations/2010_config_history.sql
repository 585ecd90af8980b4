-- Who changed which value when. Values are never part of it.

CREATE TABLE config_changes (
    app     uuid NOT NULL REFERENCES apps,
    -- The app's config_version that it made.
    version bigint NOT NULL,
    label   text,
    key     text NOT NULL,
    action  text NOT NULL CHECK (action IN ('set', 'unset')),
    person  uuid NOT NULL REFERENCES people,
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX config_changes_app_idx ON config_changes (app, version DESC);
