-- When a release was last served; none: never.
ALTER TABLE releases ADD COLUMN last_served timestamptz;
UPDATE releases r SET last_served = coalesce(
    (SELECT max(d.finished) FROM deploys d
     WHERE d.instance = r.instance AND d.release = r.number AND d.status = 'succeeded'), r.created)
WHERE r.state IN ('served', 'pruned');
