-- For how long an agent has run on this journal, as of the anchor. Rows are dated by it (changed_ms): a wall clock
-- that jumps ahead by a month would have them forgotten while the collector may still need them again. Those from
-- before count from now.

ALTER TABLE anchor ADD COLUMN age_ms INTEGER NOT NULL DEFAULT 0;
UPDATE anchor SET crc = NULL;
UPDATE occurrence SET changed_ms = 0;
