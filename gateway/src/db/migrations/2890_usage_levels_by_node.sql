-- Nodes of a cluster each hold a part of what an instance takes; they tell it anew within minutes.
DELETE FROM usage_levels;
ALTER TABLE usage_levels ADD COLUMN node text NOT NULL,
    DROP CONSTRAINT usage_levels_pkey,
    ADD PRIMARY KEY (instance, metric, node);
