-- The review desk and its deadlines: what is said about a filing, what came on paper, who was reminded.

-- A month whose closing day is not the ordinary one.
CREATE TABLE cycle_overrides (
    month TEXT PRIMARY KEY,             -- 2026-04: the month that is closed
    closing_on TEXT NOT NULL,           -- 2026-05-08
    entered_by TEXT NOT NULL,
    entered_ms BIGINT NOT NULL
);

-- Where on its pages a returned filing is wrong, in thousandths of the page.
CREATE TABLE filing_marks (
    filing_id TEXT PRIMARY KEY REFERENCES filings (id),
    page BIGINT NOT NULL,
    left_pm BIGINT,                     -- these four together, or none: the whole page
    top_pm BIGINT,
    width_pm BIGINT,
    height_pm BIGINT
);

CREATE TABLE filing_comments (
    id TEXT PRIMARY KEY,
    filing_id TEXT NOT NULL REFERENCES filings (id),
    at_ms BIGINT NOT NULL,
    audience TEXT NOT NULL,             -- office | both
    actor_kind TEXT NOT NULL,           -- member | staff
    actor_name TEXT NOT NULL,
    text_sealed TEXT NOT NULL
);
CREATE INDEX filing_comments_filing ON filing_comments (filing_id, at_ms);

CREATE TABLE withdrawal_requests (
    id TEXT PRIMARY KEY,
    filing_id TEXT NOT NULL REFERENCES filings (id),
    asked_ms BIGINT NOT NULL,
    asked_by TEXT NOT NULL REFERENCES users (id),
    reason_sealed TEXT NOT NULL,
    answered_ms BIGINT,
    answered_by TEXT REFERENCES staff (id),
    answer TEXT                         -- granted | declined | moot
);
CREATE UNIQUE INDEX withdrawal_requests_open ON withdrawal_requests (filing_id) WHERE answered_ms IS NULL;

-- 送付状: what an establishment lays on a filing that it posts.
CREATE TABLE cover_sheets (
    id TEXT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,          -- in the barcode
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    kind TEXT NOT NULL,
    filed_on TEXT NOT NULL,
    sheets BIGINT NOT NULL,
    made_by TEXT NOT NULL REFERENCES users (id),
    made_ms BIGINT NOT NULL,
    filing_id TEXT REFERENCES filings (id)
);
CREATE INDEX cover_sheets_establishment ON cover_sheets (establishment_id, made_ms);

-- Filings that came on paper.
CREATE TABLE paper_filings (
    filing_id TEXT PRIMARY KEY REFERENCES filings (id),
    code TEXT NOT NULL UNIQUE,          -- of the cover sheet, or one of its own
    arrived_on TEXT NOT NULL,
    sheets BIGINT NOT NULL,
    entered_by TEXT NOT NULL REFERENCES staff (id)
);

-- A reminder that a user got: never the same one twice.
CREATE TABLE reminders (
    user_id TEXT NOT NULL REFERENCES users (id),
    deadline TEXT NOT NULL,             -- 2026-05-01
    step TEXT NOT NULL,                 -- five_days | one_day
    queued_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, deadline, step)
);

-- Users who want no reminders.
CREATE TABLE reminders_off (
    user_id TEXT PRIMARY KEY REFERENCES users (id),
    since_ms BIGINT NOT NULL
);
