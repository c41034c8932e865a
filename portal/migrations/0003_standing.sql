-- On whose behalf and by whose word: what a second person decides, and who acts for whom.

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

-- 代理: who acts for whom. Both sides agreed, or staff wrote a group down (複数事業所管理).
CREATE TABLE delegations (
    id TEXT PRIMARY KEY,
    client_number BIGINT NOT NULL,      -- who is represented, as the proposal has it
    client_id TEXT REFERENCES establishments (id), -- null: nobody has that number
    delegate_id TEXT NOT NULL REFERENCES establishments (id),
    basis TEXT NOT NULL,                -- agreement | group
    permissions TEXT NOT NULL,          -- file fetch history
    procedures TEXT NOT NULL,           -- ,membership,salary, of filing_kinds; empty: all
    ends_ms BIGINT,                     -- the first moment that is too late
    proposed_side TEXT NOT NULL,        -- client | delegate
    proposed_by TEXT NOT NULL,
    proposed_ms BIGINT NOT NULL,
    waits_until_ms BIGINT NOT NULL,
    accepted_ms BIGINT,
    accepted_by TEXT,
    consent TEXT,                       -- in a group: when and how the client consented
    ended_ms BIGINT,
    ended_by TEXT,
    end_reason TEXT                     -- declined | withdrawn | revoked | given_up | over
);
CREATE UNIQUE INDEX delegations_live ON delegations (client_number, delegate_id) WHERE ended_ms IS NULL;
CREATE UNIQUE INDEX delegations_group ON delegations (client_id) WHERE basis = 'group' AND ended_ms IS NULL;
CREATE INDEX delegations_delegate ON delegations (delegate_id, ended_ms);
CREATE INDEX delegations_client ON delegations (client_id, ended_ms);
