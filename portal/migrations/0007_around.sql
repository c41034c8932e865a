-- Around the exchange: the history of both directions, announcements, inquiries, staff's tasks.

-- One row for each thing that an establishment or the fund sent, returned, took back or fetched,
-- written in the transaction of that thing. Wide on purpose: a list reads this table alone.
CREATE TABLE history (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    entry TEXT NOT NULL,                -- filed | withdrawn | returned | decided | issued | fetched | recalled
    kind TEXT NOT NULL,                 -- 資格取得届, 決定通知書: as people read it
    title TEXT NOT NULL,                -- the filing's or the notice's
    number TEXT NOT NULL,               -- of the receipt or of the notice
    side TEXT NOT NULL,                 -- member | staff
    person TEXT NOT NULL,               -- who did it
    reason TEXT NOT NULL,               -- a return's code; else empty
    filing_id TEXT REFERENCES filings (id),
    notice_id TEXT REFERENCES notices (id)
);
CREATE INDEX history_time ON history (at_ms, id);
CREATE INDEX history_establishment ON history (establishment_id, at_ms, id);
CREATE INDEX history_entry ON history (entry, at_ms, id);
CREATE INDEX history_kind ON history (kind, at_ms, id);
CREATE INDEX history_person ON history (person, at_ms, id);
CREATE INDEX history_number ON history (number, at_ms, id);
CREATE INDEX history_title ON history (title, at_ms, id);

-- The reports ask who has not fetched what.
CREATE INDEX notices_unread ON notices (establishment_id, issued_ms)
    WHERE first_fetched_ms IS NULL AND recalled_ms IS NULL;

-- What the office tells all establishments or some of them, for a while.
CREATE TABLE announcements (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    audience TEXT NOT NULL,             -- all | chosen
    shown_from_ms BIGINT NOT NULL,
    shown_until_ms BIGINT NOT NULL,
    written_by TEXT NOT NULL REFERENCES staff (id),
    written_ms BIGINT NOT NULL,
    withdrawn_ms BIGINT
);
CREATE INDEX announcements_time ON announcements (shown_until_ms, shown_from_ms);

CREATE TABLE announcement_targets (
    announcement_id TEXT NOT NULL REFERENCES announcements (id),
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    PRIMARY KEY (announcement_id, establishment_id)
);

CREATE TABLE announcement_reads (
    announcement_id TEXT NOT NULL REFERENCES announcements (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    read_ms BIGINT NOT NULL,
    PRIMARY KEY (announcement_id, user_id)
);

-- お問い合わせ: a question and what was said about it. What was written is sealed.
CREATE TABLE inquiries (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    subject TEXT NOT NULL,              -- a code
    state TEXT NOT NULL,                -- waiting | answered | closed
    opened_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE INDEX inquiries_user ON inquiries (establishment_id, changed_ms);
CREATE INDEX inquiries_state ON inquiries (state, changed_ms);

CREATE TABLE inquiry_messages (
    id TEXT PRIMARY KEY,
    inquiry_id TEXT NOT NULL REFERENCES inquiries (id),
    at_ms BIGINT NOT NULL,
    side TEXT NOT NULL,                 -- member | staff
    person TEXT NOT NULL,
    text_sealed TEXT NOT NULL
);
CREATE INDEX inquiry_messages_inquiry ON inquiry_messages (inquiry_id, at_ms, id);

-- What a person at the office has to see to. At most one open task of a kind for one subject.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- mail_undelivered
    subject TEXT NOT NULL,              -- what it is about: a user's id
    detail TEXT NOT NULL,               -- a code, no personal data
    raised_ms BIGINT NOT NULL,
    done_ms BIGINT,
    done_by TEXT REFERENCES staff (id),
    outcome TEXT                        -- address_changed | address_confirmed
);
CREATE UNIQUE INDEX tasks_open ON tasks (kind, subject) WHERE done_ms IS NULL;
CREATE INDEX tasks_done ON tasks (done_ms);

-- Addresses that mail servers refuse for good, by keyed hash. Another address of the same user
-- has another hash: a change needs no tidying up here.
CREATE TABLE refused_addresses (
    address_hash TEXT PRIMARY KEY,
    status TEXT NOT NULL,               -- 5.1.1
    since_ms BIGINT NOT NULL
);
