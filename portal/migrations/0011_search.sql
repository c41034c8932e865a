-- A part of a name is looked for in an index, in the order of the list, and not in every row.
DROP INDEX filings_closed;
CREATE INDEX filings_closed ON filings (state, changed_ms, id, name, submission_id);
DROP INDEX filings_changed;
CREATE INDEX filings_changed ON filings (changed_ms, id, name, submission_id);

-- Whose a document is: asked when the same content is looked for, and whenever one is deleted.
CREATE INDEX filings_document ON filings (document_id);
CREATE INDEX notices_document ON notices (document_id);
CREATE INDEX notice_batch_items_document ON notice_batch_items (document_id);
CREATE INDEX destructions_document ON destructions (document_id);
