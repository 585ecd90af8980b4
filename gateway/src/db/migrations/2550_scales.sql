-- How many replicas of a process type somebody wants, whatever the manifest says: later deploys keep it.
CREATE TABLE scales (
  instance uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
  process text NOT NULL,
  replicas integer NOT NULL CHECK (replicas BETWEEN 0 AND 64),
  actor text NOT NULL,
  created timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (instance, process)
);
-- What a deploy that only changes how many replicas there are is to set, by process type; null goes back to the manifest's.
ALTER TABLE deploys ADD COLUMN scale jsonb;
