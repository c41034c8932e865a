-- A part of a name is looked for in an index, in the order of the list, and not in every row.
DROP INDEX filings_closed;
CREATE INDEX filings_closed ON filings (state, changed_ms, id, name, submission_id);
DROP INDEX filings_changed;
CREATE INDEX filings_changed ON filings (changed_ms, id, name, submission_id);
