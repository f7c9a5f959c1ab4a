-- What of a broken journal found no room beside it.

ALTER TABLE salvage ADD COLUMN evidence_given_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE salvage ADD COLUMN rows_given_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE salvage ADD COLUMN occurrences_given_up INTEGER NOT NULL DEFAULT 0;
