-- A run of a task that the manifest names: one at a time, for whoever has the task's role.
ALTER TABLE runs ADD COLUMN task text;
ALTER TABLE runs ADD COLUMN role text;
CREATE UNIQUE INDEX runs_one_of_task ON runs (instance, task) WHERE status = 'running' AND task IS NOT NULL;
