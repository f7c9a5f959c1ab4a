-- What was lost before anybody had it: count occurrences, the last of them at position "through". Kept for ever, so that
-- a collector that was restored from a backup, and one that is told all again, hear of it too. stream: in which it was
-- told first.

CREATE TABLE loss (
    made INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    stream TEXT NOT NULL,
    through INTEGER NOT NULL,
    count INTEGER NOT NULL,
    crc INTEGER
) STRICT;

INSERT INTO loss (id, stream, through, count)
    SELECT lower(hex(randomblob(16))), stream.id, far.count, many.count
    FROM stream, counter AS far, counter AS many
    WHERE far.name = 'lost_through' AND many.name = 'lost' AND far.count > 0;
DELETE FROM counter WHERE name IN ('lost', 'lost_through');
