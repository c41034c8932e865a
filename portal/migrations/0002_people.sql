-- People of an establishment: first sign-in, changes of address, hand-over, recovery codes,
-- and what an admin asks the fund for.

-- Versions of the terms of use (利用規約) that staff have published; before the first of
-- them the program's own text is version 1.
CREATE TABLE terms (
    version BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    published_ms BIGINT NOT NULL,
    published_by TEXT NOT NULL REFERENCES staff (id)
);

CREATE TABLE terms_acceptances (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    version BIGINT NOT NULL,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    accepted_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX terms_acceptances_once ON terms_acceptances (user_id, version);

-- 事業所情報: how the fund reaches an establishment.
CREATE TABLE establishment_contacts (
    establishment_id TEXT PRIMARY KEY REFERENCES establishments (id),
    postal_code TEXT NOT NULL,
    address TEXT NOT NULL,
    telephone TEXT NOT NULL,
    department TEXT NOT NULL,           -- may be empty
    changed_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL REFERENCES users (id)
);

-- 管理者情報: how the fund reaches a person.
CREATE TABLE user_contacts (
    user_id TEXT PRIMARY KEY REFERENCES users (id),
    kana TEXT NOT NULL,
    telephone TEXT NOT NULL,
    department TEXT NOT NULL,           -- may be empty
    changed_ms BIGINT NOT NULL
);

-- A new mail address that waits for the code that was sent to it.
CREATE TABLE address_changes (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    asked_by TEXT NOT NULL REFERENCES users (id),
    address TEXT NOT NULL,
    code_hash TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    confirmed_ms BIGINT,
    superseded_ms BIGINT
);
CREATE INDEX address_changes_user ON address_changes (user_id, asked_ms);

-- 管理者の引継ぎ: an admin names the successor, who accepts.
CREATE TABLE handovers (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    leaver_id TEXT NOT NULL REFERENCES users (id),
    successor_id TEXT NOT NULL REFERENCES users (id),
    leaver_becomes TEXT NOT NULL,       -- added | ended
    proposed_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    outcome TEXT                        -- accepted | declined | withdrawn
);
CREATE UNIQUE INDEX handovers_open ON handovers (establishment_id) WHERE closed_ms IS NULL;

-- What an admin asks the fund for: another name of the establishment, more PCs (増設届).
CREATE TABLE admin_requests (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    kind TEXT NOT NULL,                 -- name | device_limit
    wanted TEXT NOT NULL,
    reason TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT REFERENCES staff (id),
    decision TEXT,                      -- approved | refused
    answer TEXT
);
CREATE UNIQUE INDEX admin_requests_open ON admin_requests (establishment_id, kind) WHERE decided_ms IS NULL;
CREATE INDEX admin_requests_asked ON admin_requests (decided_ms, asked_ms);

-- 回復コード: each signs in once in place of the second factor.
CREATE TABLE recovery_codes (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    code_hash TEXT NOT NULL UNIQUE,
    made_ms BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX recovery_codes_user ON recovery_codes (user_id);
