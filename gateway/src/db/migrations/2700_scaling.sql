-- Why the gateway itself gave what serves another number of replicas; null in all other deploys.
ALTER TABLE deploys ADD COLUMN scale_reason text;
CREATE INDEX deploys_scalings ON deploys (instance, created DESC) WHERE scale_reason IS NOT NULL;

-- What was seen of an instance's load, hour by hour, over all routers of its cluster.
CREATE TABLE loads (
  instance uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
  hour timestamptz NOT NULL,
  -- How many of its seconds were seen; in how many of these requests waited for others to end.
  seconds integer NOT NULL,
  waiting integer NOT NULL,
  -- Requests in replicas: over all seconds, and the most in one.
  busy_sum bigint NOT NULL,
  busy_max integer NOT NULL,
  -- What the replicas answered at once, at most.
  at_once integer NOT NULL,
  PRIMARY KEY (instance, hour)
);
CREATE INDEX loads_by_hour ON loads (hour);
