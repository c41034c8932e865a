-- Filings that may be one and the same, sent once through the portal and once on paper.
CREATE INDEX filings_twins ON filings (establishment_id, kind, filed_on);
