-- Values by version: what a key held stays, sealed, for as long as a release that is kept was made with it.

ALTER TABLE config_changes ADD COLUMN sealed bytea;
-- Of earlier versions only the last value is known.
UPDATE config_changes c SET sealed = v.sealed FROM config_values v
 WHERE c.action = 'set' AND c.app = v.app AND c.key = v.key AND c.label IS NOT DISTINCT FROM v.label;
INSERT INTO config_changes (app, version, label, key, action, person, at, sealed)
SELECT v.app, v.version, v.label, v.key, 'set', v.person, v.updated, v.sealed FROM config_values v
 WHERE NOT EXISTS (SELECT FROM config_changes c
                    WHERE c.app = v.app AND c.key = v.key AND c.label IS NOT DISTINCT FROM v.label);
DROP TABLE config_values;
CREATE INDEX config_changes_key_idx ON config_changes (app, key, label, version DESC);
