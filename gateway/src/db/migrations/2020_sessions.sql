-- A session ends with the key that began it.
ALTER TABLE tokens ADD COLUMN ssh_key uuid REFERENCES ssh_keys ON DELETE CASCADE;
CREATE INDEX tokens_ssh_key_idx ON tokens (ssh_key);
