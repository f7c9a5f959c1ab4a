-- What the caps need to know. evidence_bytes: of the row, and in the stream of all rows. count: occurrences that a row
-- stands for, more than one only in a roll-up.

ALTER TABLE occurrence ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE occurrence ADD COLUMN evidence_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE occurrence SET evidence_bytes = length(json_extract(body, '$.evidence'))
    WHERE json_valid(body) AND json_extract(body, '$.evidence') IS NOT NULL;

ALTER TABLE stream ADD COLUMN evidence_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE stream SET crc = NULL, evidence_bytes = (SELECT coalesce(sum(evidence_bytes), 0) FROM occurrence);

-- What was ever given up, by name.
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    crc INTEGER
) STRICT;
