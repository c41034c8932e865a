-- The first schema: everything the main job needs, from a PC's registration to a fetched notice.
--
-- One text for SQLite and PostgreSQL: TEXT ids, BIGINT milliseconds (UTC, names end in _ms),
-- states as text or as a nullable moment, no booleans, no blobs (base64 in TEXT).

CREATE TABLE authorities (
    kind TEXT PRIMARY KEY,              -- device | service
    certificate TEXT NOT NULL,          -- DER
    key_sealed TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

-- Keys of the portal's own listeners that PCs know by their hash.
CREATE TABLE listener_keys (
    name TEXT PRIMARY KEY,              -- member
    key_sealed TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL                 -- JSON
);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE calendar_days (
    day TEXT PRIMARY KEY,               -- 2026-12-29
    kind TEXT NOT NULL,                 -- closing | extra
    reason TEXT NOT NULL,
    opens TEXT,                         -- 08:00, extra days only
    closes TEXT,
    entered_by TEXT NOT NULL,
    entered_ms BIGINT NOT NULL
);

CREATE TABLE gateways (
    name TEXT PRIMARY KEY,
    certificate_sha256 TEXT NOT NULL UNIQUE,
    next_certificate_sha256 TEXT UNIQUE, -- made by a renewal; takes over when it is first shown
    hosts TEXT NOT NULL,                -- JSON list: what its certificates name beside itself
    url TEXT NOT NULL,
    wireguard_public_key TEXT,
    endpoints TEXT NOT NULL,            -- JSON list of address:port
    added_ms BIGINT NOT NULL,
    seen_ms BIGINT,
    retired_ms BIGINT
);

CREATE TABLE establishments (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    kind TEXT NOT NULL DEFAULT 'employer', -- employer | sharoushi: acts for others
    name TEXT NOT NULL,
    key_wrapped TEXT NOT NULL,          -- empty: destroyed
    zip_password_sealed TEXT NOT NULL,
    device_limit BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    suspended_ms BIGINT,
    ended_ms BIGINT                     -- has left for good; suspended as well
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,       -- what is typed at sign-in
    name TEXT NOT NULL,
    name_kana TEXT,                     -- as the registration form has it
    email TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    password_is_initial_since_ms BIGINT, -- not null: must be changed at the next sign-in
    second_factor TEXT NOT NULL,        -- email | totp
    totp_sealed TEXT,
    totp_last_step BIGINT,
    totp_pending_sealed TEXT,           -- shown as a picture, not confirmed by a code yet
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT,
    terms_version BIGINT NOT NULL DEFAULT 0, -- the latest terms of use that were accepted
    contacts_ms BIGINT,                 -- when an admin confirmed 管理者情報
    introduced_ms BIGINT                -- when the steps of the first sign-in were done
);

CREATE TABLE memberships (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,                 -- admin | added
    permissions TEXT NOT NULL DEFAULT 'file fetch history', -- of an added user; an admin has all
    created_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    confirmed_ms BIGINT                 -- when an admin confirmed 事業所情報
);
CREATE UNIQUE INDEX memberships_live ON memberships (establishment_id, user_id) WHERE ended_ms IS NULL;
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE staff (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,                 -- reviewer | supervisor | system_admin
    password_hash TEXT NOT NULL,
    password_is_initial_since_ms BIGINT, -- not null: must be changed at the next sign-in
    totp_sealed TEXT NOT NULL,
    totp_last_step BIGINT,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT
);

CREATE TABLE sign_in_failures (
    account TEXT NOT NULL,              -- keyed hash of what was typed: no name of a stranger is kept
    origin TEXT NOT NULL,               -- device id, or office:address
    failures BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    PRIMARY KEY (account, origin)
);

CREATE TABLE registration_codes (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    code_hash TEXT NOT NULL UNIQUE,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT,
    revoked_ms BIGINT
);

CREATE TABLE enrolments (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    registration_code_id TEXT NOT NULL REFERENCES registration_codes (id),
    device_name TEXT NOT NULL,
    os TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    certificate_request TEXT NOT NULL,
    public_key TEXT NOT NULL UNIQUE,    -- SubjectPublicKeyInfo, DER
    matching_code TEXT NOT NULL,
    poll_token_hash TEXT NOT NULL,
    requested_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT,
    decision TEXT,                      -- approved | refused
    device_id TEXT
);
CREATE INDEX enrolments_open ON enrolments (decided_ms, requested_ms);

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    os TEXT NOT NULL,
    public_key TEXT NOT NULL,
    grants_given BIGINT NOT NULL,       -- numbers the device's grants, through all its sessions
    approved_ms BIGINT NOT NULL,
    approved_by TEXT NOT NULL,
    seen_ms BIGINT,
    revoked_ms BIGINT,
    revoked_by TEXT,
    revoke_reason TEXT
);
CREATE INDEX devices_establishment ON devices (establishment_id, revoked_ms);

-- A PC's certificates, all for its one key: a renewed one is used beside the old for a while.
CREATE TABLE device_certificates (
    sha256 TEXT PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id),
    certificate TEXT NOT NULL,          -- DER
    issued_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX device_certificates_device ON device_certificates (device_id, expires_ms);

CREATE TABLE tunnel_sessions (
    id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id),
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    gateway TEXT NOT NULL REFERENCES gateways (name),
    generation BIGINT NOT NULL,         -- which of the device's grants is in force
    device_certificate_sha256 TEXT NOT NULL,
    wireguard_public_key TEXT NOT NULL UNIQUE,
    inner_address TEXT NOT NULL UNIQUE,
    opened_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,
    deadline_reason TEXT NOT NULL,
    ended_ms BIGINT,
    end_reason TEXT,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    pages_cut BIGINT NOT NULL DEFAULT 0 -- counts how often its connections were cut
);
CREATE UNIQUE INDEX tunnel_sessions_one_per_device ON tunnel_sessions (device_id) WHERE ended_ms IS NULL;
CREATE INDEX tunnel_sessions_feed ON tunnel_sessions (gateway, changed_ms);
CREATE INDEX tunnel_sessions_live ON tunnel_sessions (gateway, deadline_ms) WHERE ended_ms IS NULL;

-- Grants that a session left behind when it went on through another gateway.
CREATE TABLE session_moves (
    wireguard_public_key TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES tunnel_sessions (id),
    generation BIGINT NOT NULL,
    gateway TEXT NOT NULL REFERENCES gateways (name),
    moved_ms BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL
);
CREATE INDEX session_moves_gateway ON session_moves (gateway, moved_ms);
CREATE INDEX session_moves_session ON session_moves (session_id);

CREATE TABLE one_time_codes (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    session_id TEXT NOT NULL REFERENCES tunnel_sessions (id),
    code_hash TEXT NOT NULL,
    mail_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    used_ms BIGINT,
    superseded_ms BIGINT
);
CREATE INDEX one_time_codes_session ON one_time_codes (session_id, user_id);

CREATE TABLE web_sessions (
    token_hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- member | staff
    account_id TEXT NOT NULL,           -- users.id or staff.id
    tunnel_session_id TEXT,             -- member sessions live inside one
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    factor_ms BIGINT NOT NULL,          -- when a second factor was last shown
    acting_for TEXT,                    -- delegations.id, while one acts for a client
    ended_ms BIGINT
);
CREATE INDEX web_sessions_account ON web_sessions (account_id);

CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,              -- one_time_code | notice_issued | …
    message_sealed TEXT NOT NULL,       -- recipient, subject and body
    recipient_hash TEXT,                -- keyed; stays, so that a bounce can be told from a forgery
    created_ms BIGINT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    last_error TEXT,
    claimed_until_ms BIGINT,
    sent_ms BIGINT,
    given_up_ms BIGINT
);
CREATE INDEX outbox_due ON outbox (not_before_ms) WHERE sent_ms IS NULL AND given_up_ms IS NULL;

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    file_name TEXT NOT NULL,
    length_bytes BIGINT NOT NULL,
    offset_bytes BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    submission_id TEXT                  -- not null: it was accepted, and this is its receipt
);
CREATE INDEX uploads_expiry ON uploads (expires_ms);
CREATE INDEX uploads_establishment ON uploads (establishment_id);

CREATE TABLE upload_parts (
    upload_id TEXT NOT NULL REFERENCES uploads (id),
    start_bytes BIGINT NOT NULL,
    length_bytes BIGINT NOT NULL,
    document_id TEXT NOT NULL,          -- where the sealed part lies in the vault
    PRIMARY KEY (upload_id, start_bytes)
);

CREATE TABLE documents (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    file_name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    pages BIGINT NOT NULL,
    stored_ms BIGINT NOT NULL,
    destroyed_ms BIGINT
);
CREATE INDEX documents_sha256 ON documents (establishment_id, sha256);

CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    receipt_number TEXT NOT NULL UNIQUE,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT REFERENCES users (id), -- these three are null for what came on paper
    device_id TEXT REFERENCES devices (id),
    session_id TEXT REFERENCES tunnel_sessions (id),
    received_ms BIGINT NOT NULL,
    delegation_id TEXT                  -- delegations.id, if a delegate handed it in
);

-- The files of one submission, as the sender had them: zips, or bare PDFs.
CREATE TABLE submission_files (
    submission_id TEXT NOT NULL REFERENCES submissions (id),
    position BIGINT NOT NULL,
    file_name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    warning TEXT NOT NULL,              -- weak_encryption, or empty
    PRIMARY KEY (submission_id, position)
);
CREATE INDEX submissions_establishment ON submissions (establishment_id, received_ms);

CREATE TABLE filings (
    id TEXT PRIMARY KEY,
    submission_id TEXT NOT NULL REFERENCES submissions (id),
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    document_id TEXT NOT NULL REFERENCES documents (id),
    name TEXT NOT NULL,                 -- 20240524_0123_資格取得届
    original_name TEXT NOT NULL,        -- as the sender had it
    kind TEXT NOT NULL,                 -- code
    filed_on TEXT NOT NULL,             -- 2024-05-24
    state TEXT NOT NULL,                -- received | in_review | decided | returned | withdrawn
    reviewer_id TEXT REFERENCES staff (id),
    received_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    return_code TEXT,
    return_reason TEXT,
    replaces_id TEXT REFERENCES filings (id),
    due_on TEXT NOT NULL DEFAULT '9999-12-31', -- the office decides by this day
    content_sha256 TEXT                 -- of what its pages show; null where that cannot be told
);
CREATE INDEX filings_establishment ON filings (establishment_id, received_ms);
CREATE INDEX filings_queue ON filings (state, received_ms);
CREATE INDEX filings_open ON filings (due_on, id) WHERE state IN ('received', 'in_review');
CREATE INDEX filings_reviewer ON filings (reviewer_id, due_on, id) WHERE state IN ('received', 'in_review');
CREATE INDEX filings_closed ON filings (state, changed_ms, id);
CREATE INDEX filings_changed ON filings (changed_ms, id);
CREATE INDEX filings_kind ON filings (kind, changed_ms, id);
CREATE INDEX filings_establishment_changed ON filings (establishment_id, changed_ms, id);
CREATE INDEX filings_submission ON filings (submission_id);
CREATE INDEX filings_replaces ON filings (replaces_id);
CREATE INDEX filings_content ON filings (establishment_id, content_sha256);

CREATE TABLE filing_events (
    id TEXT PRIMARY KEY,
    filing_id TEXT NOT NULL REFERENCES filings (id),
    at_ms BIGINT NOT NULL,
    event TEXT NOT NULL,                -- the words of filings::Event
    actor_kind TEXT NOT NULL,           -- member | staff | system
    actor_name TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE INDEX filing_events_filing ON filing_events (filing_id, at_ms);

CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    number TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,                 -- determination | contribution | payment | other
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    filing_id TEXT REFERENCES filings (id),
    document_id TEXT NOT NULL REFERENCES documents (id),
    title TEXT NOT NULL,
    issued_ms BIGINT NOT NULL,
    issued_by TEXT NOT NULL REFERENCES staff (id),
    recalled_ms BIGINT,
    first_fetched_ms BIGINT,
    batch_id TEXT,                      -- notice_batches.id, if it came out of a batch
    month TEXT,                         -- 2026-10: which month's contributions it is about
    amount_yen BIGINT,                  -- null where it is about no money
    replaces_id TEXT REFERENCES notices (id), -- the notice that this one corrects
    recalled_by TEXT REFERENCES staff (id),
    recall_reason TEXT
);
CREATE INDEX notices_establishment ON notices (establishment_id, issued_ms);
CREATE INDEX notices_filing ON notices (filing_id);
CREATE INDEX notices_batch ON notices (batch_id);
CREATE INDEX notices_issued ON notices (issued_ms);

-- A determination that a reviewer is looking at before it is issued.
CREATE TABLE notice_drafts (
    id TEXT PRIMARY KEY,
    filing_id TEXT NOT NULL UNIQUE REFERENCES filings (id),
    staff_id TEXT NOT NULL REFERENCES staff (id),
    document_id TEXT NOT NULL REFERENCES documents (id),
    number TEXT NOT NULL,               -- the notice's number to be
    form_sealed TEXT,                   -- what was typed, to correct it; null for an uploaded PDF
    made_ms BIGINT NOT NULL
);

CREATE TABLE notice_fetches (
    id TEXT PRIMARY KEY,
    notice_id TEXT NOT NULL REFERENCES notices (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    form TEXT NOT NULL,                 -- pdf | zip | pack
    at_ms BIGINT NOT NULL
);
CREATE INDEX notice_fetches_notice ON notice_fetches (notice_id, at_ms);

CREATE TABLE audit_log (
    seq BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,           -- member | staff | device | gateway | system
    actor_id TEXT NOT NULL,
    device_id TEXT NOT NULL,            -- empty where there is none
    session_id TEXT NOT NULL,
    act TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    details TEXT NOT NULL,              -- JSON, no personal data
    chain TEXT NOT NULL                 -- HMAC over this row and the chain before it
);

-- One row: the end of the chain. Locking it puts the writers of audit rows in order.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    chain TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, chain) VALUES (1, 0, '');
