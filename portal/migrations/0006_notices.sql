-- Batches of notices, reminders, how long notices are kept, and the records of their destruction.

CREATE TABLE notice_batches (
    id TEXT PRIMARY KEY,
    number TEXT NOT NULL UNIQUE,        -- 2026-003: the business year and a count
    source TEXT NOT NULL,               -- files | csv
    month TEXT NOT NULL,                -- 2026-10
    edition TEXT NOT NULL,              -- first | correction
    state TEXT NOT NULL,                -- stopped | checked | released | discarded
    made_by TEXT NOT NULL REFERENCES staff (id),
    made_ms BIGINT NOT NULL,
    released_by TEXT REFERENCES staff (id),
    released_ms BIGINT,
    discarded_ms BIGINT,
    mailed_ms BIGINT,                   -- every mail about it stands in the outbox
    reminded_ms BIGINT                  -- so do the automatic reminders, or none was needed
);
CREATE INDEX notice_batches_made ON notice_batches (made_ms);

-- What a batch will issue. The id becomes the notice's.
CREATE TABLE notice_batch_items (
    id TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL REFERENCES notice_batches (id),
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    kind TEXT NOT NULL,
    number TEXT NOT NULL,
    title TEXT NOT NULL,
    amount_yen BIGINT,
    origin TEXT NOT NULL,               -- the file's name or the line that it came from
    document_id TEXT NOT NULL REFERENCES documents (id),
    remark TEXT NOT NULL,               -- none | own_number_missing | text_unread
    replaces_id TEXT REFERENCES notices (id)
);
CREATE INDEX notice_batch_items_batch ON notice_batch_items (batch_id, establishment_id);

-- Why a batch was stopped.
CREATE TABLE notice_batch_problems (
    batch_id TEXT NOT NULL REFERENCES notice_batches (id),
    position BIGINT NOT NULL,
    origin TEXT NOT NULL,
    sentence TEXT NOT NULL,
    PRIMARY KEY (batch_id, position)
);

-- Who was told of a batch in which round: one mail for one person, whatever crashes.
CREATE TABLE notice_mails (
    batch_id TEXT NOT NULL REFERENCES notice_batches (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    round TEXT NOT NULL,                -- issued | automatic | manual/2026-11-20
    queued_ms BIGINT NOT NULL,
    PRIMARY KEY (batch_id, round, user_id)
);

-- How long notices of a kind are kept. No row: the rule that the program brings.
CREATE TABLE retention_rules (
    kind TEXT PRIMARY KEY,
    years BIGINT NOT NULL,
    years_before BIGINT NOT NULL,       -- holds on for a while after a change
    changed_by TEXT NOT NULL REFERENCES staff (id),
    changed_ms BIGINT NOT NULL
);

-- What was destroyed: never what stood in it.
CREATE TABLE destructions (
    id TEXT PRIMARY KEY,
    notice_id TEXT NOT NULL UNIQUE REFERENCES notices (id),
    document_id TEXT NOT NULL REFERENCES documents (id),
    sha256 TEXT NOT NULL,
    years BIGINT NOT NULL,              -- the rule that it fell under
    destroyed_ms BIGINT NOT NULL
);
CREATE INDEX destructions_at ON destructions (destroyed_ms);
