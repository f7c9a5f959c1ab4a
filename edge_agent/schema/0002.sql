-- A CRC-32 for each row of the other tables too, over its columns. NULL: from before, not yet sealed.

ALTER TABLE stream ADD COLUMN crc INTEGER;
ALTER TABLE boundary ADD COLUMN crc INTEGER;
ALTER TABLE anchor ADD COLUMN crc INTEGER;
