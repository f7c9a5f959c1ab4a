-- The journal. Facts only: what is open, unsent or acknowledged is derived from them.

-- The life of this journal: one row. Positions run on through all streams that it ever had.
CREATE TABLE stream (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    head_seq INTEGER NOT NULL,
    cursor_seq INTEGER NOT NULL,
    cursor_nonce TEXT NOT NULL,
    pruned_through INTEGER NOT NULL
) STRICT;

-- The newest form of each occurrence, as on the wire. crc is CRC-32 of body: SQLite has no checksum of its own.
CREATE TABLE occurrence (
    uid TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    mod_seq INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX occurrence_in_order ON occurrence (mod_seq);
CREATE UNIQUE INDEX occurrence_open ON occurrence (key) WHERE open = 1;

-- Positions that were announced to the collector, the newest 64.
CREATE TABLE boundary (
    made INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL UNIQUE,
    nonce TEXT NOT NULL
) STRICT;

-- The last moment at which this agent is known to have run: one row.
CREATE TABLE anchor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT NOT NULL,
    mono_ns INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    source TEXT NOT NULL
) STRICT;
