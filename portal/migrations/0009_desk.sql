-- The desk: the audit log is looked through by time and checked from a page.

CREATE INDEX audit_log_time ON audit_log (at_ms, seq);

-- Each time that somebody of the staff had the audit log checked.
CREATE TABLE audit_checks (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    checked_by TEXT NOT NULL REFERENCES staff (id),
    row_count BIGINT NOT NULL,          -- that were in order
    broken_seq BIGINT                   -- the first one that is not; null: all are
);
CREATE INDEX audit_checks_time ON audit_checks (at_ms);
