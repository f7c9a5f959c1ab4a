-- Journals that were broken and of which rows were moved into this one; reported, and then forgotten, at the next start.

CREATE TABLE salvage (
    file TEXT PRIMARY KEY,
    head_seq INTEGER NOT NULL,
    rows_salvaged INTEGER NOT NULL,
    rows_damaged INTEGER NOT NULL,
    places_unreadable INTEGER NOT NULL
) STRICT;
