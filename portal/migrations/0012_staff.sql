-- Since when an account of staff, added by one person alone, waits for a second one; null: it
-- does not. Until then it has no vote in what takes two.
ALTER TABLE staff ADD COLUMN awaits_second_ms BIGINT;
