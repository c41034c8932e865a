-- On whose behalf and by whose word: proposals that a second person decides.

CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- approvals::Kind
    subject TEXT NOT NULL,              -- what it is about: an id, by kind
    reason TEXT NOT NULL,
    proposed_by TEXT NOT NULL REFERENCES staff (id),
    proposed_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    decided_by TEXT REFERENCES staff (id),
    decided_ms BIGINT,
    decision TEXT                       -- approved | refused | withdrawn | expired
);
CREATE UNIQUE INDEX approvals_open ON approvals (kind, subject) WHERE decided_ms IS NULL;
CREATE INDEX approvals_proposed ON approvals (proposed_ms);

-- 廃棄記録: what remains of an establishment's documents when its key is destroyed.
CREATE TABLE key_destructions (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL UNIQUE REFERENCES establishments (id),
    documents BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    proposed_by TEXT NOT NULL REFERENCES staff (id),
    approved_by TEXT NOT NULL REFERENCES staff (id),
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
