-- Ten years of a fund: lists, their counts and what is asked at every sign-in read an index.

-- An establishment's filings by what became of them.
CREATE INDEX filings_establishment_state ON filings (establishment_id, state, received_ms, id);

-- All notices by time, with what the search of records narrows by.
DROP INDEX notices_issued;
CREATE INDEX notices_issued ON notices (issued_ms, id, amount_yen);

-- The same of one establishment.
DROP INDEX notices_establishment;
CREATE INDEX notices_establishment ON notices (establishment_id, issued_ms, id, recalled_ms, amount_yen);

-- What changed lately, through whichever gateway: asked twice a second.
CREATE INDEX tunnel_sessions_changed ON tunnel_sessions (changed_ms);

-- Who is signed in through a tunnel session, when somebody last was, and whoever acts for a
-- client now.
CREATE INDEX web_sessions_tunnel ON web_sessions (tunnel_session_id) WHERE ended_ms IS NULL;
CREATE INDEX web_sessions_signed_in ON web_sessions (account_id, kind, created_ms);
CREATE INDEX web_sessions_acting ON web_sessions (acting_for) WHERE acting_for IS NOT NULL;

-- Which notice corrects another.
CREATE INDEX notices_replaces ON notices (replaces_id);

-- What the reports count by month.
CREATE INDEX history_reports ON history (at_ms, entry, kind);

-- An establishment's own history by kind, and which kinds there are.
CREATE INDEX history_establishment_kind ON history (establishment_id, kind, at_ms, id);
