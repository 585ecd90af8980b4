-- Of the memory that a plan takes, what must be on the cluster's manager. Clusters had one node before.
ALTER TABLE plans ADD COLUMN pinned bigint;
ALTER TABLE deploys ADD COLUMN pinned bigint;
UPDATE plans SET pinned = memory;
UPDATE deploys SET pinned = memory WHERE memory IS NOT NULL;
