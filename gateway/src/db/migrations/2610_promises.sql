-- What a cluster has promised: what a plan takes, and what a deploy that runs is to take. In bytes and thousandths of a CPU; null
-- where nobody has counted yet.
ALTER TABLE plans
  ADD COLUMN memory bigint,
  ADD COLUMN millicpus bigint,
  ADD COLUMN disk bigint;
ALTER TABLE deploys
  ADD COLUMN memory bigint,
  ADD COLUMN millicpus bigint,
  ADD COLUMN disk bigint;
