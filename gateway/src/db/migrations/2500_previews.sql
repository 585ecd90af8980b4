-- Instances that a pattern of labels stands for: one per branch, and each for a time.
CREATE TABLE previews (
    instance uuid PRIMARY KEY REFERENCES instances,
    -- As in `preview/*`.
    pattern  text NOT NULL,
    branch   text NOT NULL,
    -- How long it lives after a deploy.
    lifetime interval NOT NULL,
    expires  timestamptz NOT NULL,
    -- When it was told that it expires.
    warned   timestamptz,
    -- Since when a gateway takes it away. One that does not come to an end is followed by another.
    ending   timestamptz
);
CREATE INDEX previews_expires_idx ON previews (expires);

-- Since when the newest magrathea.yml that was deployed has not had the instance's label.
ALTER TABLE instances ADD COLUMN absent_since timestamptz;

-- grants.label may be a pattern, as in `preview/*`.
COMMENT ON COLUMN grants.label IS 'a label, or a pattern of labels as in preview/*';
