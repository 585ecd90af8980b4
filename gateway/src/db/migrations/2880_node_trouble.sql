-- What was wrong on a node when it was told last, for people; nothing when nothing was.
ALTER TABLE nodes ADD COLUMN trouble text;
