-- Who let a release on trial serve everybody.
ALTER TABLE deploys ADD COLUMN promoted_by text;
