-- Passkeys (WebAuthn) of users and staff, the questions that a browser answers with them, what
-- resets of sign-ins wait for, and how long guessing is stopped.

CREATE TABLE passkeys (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,           -- member | staff
    owner_id TEXT NOT NULL,
    credential_id TEXT NOT NULL UNIQUE, -- base64url
    name TEXT NOT NULL,                 -- what its owner calls it
    public_key TEXT NOT NULL,           -- JSON of the credential, without any secret
    counter BIGINT NOT NULL,            -- the authenticator's, at its last use
    added_ms BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX passkeys_owner ON passkeys (owner_kind, owner_id);

-- One open question for each purpose and session; a newer one takes its place.
CREATE TABLE passkey_questions (
    purpose TEXT NOT NULL,              -- register | sign_in | step_up
    bound_to TEXT NOT NULL,             -- the web session, the tunnel session or the visit, hashed
    state TEXT NOT NULL,                -- JSON: what the answer is checked against
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (purpose, bound_to)
);
CREATE INDEX passkey_questions_expiry ON passkey_questions (expires_ms);

-- A reset of a sign-in that a second person has approved: whoever hands out the new password
-- carries it out, once.
CREATE TABLE approved_resets (
    id TEXT PRIMARY KEY,                -- the approval's
    kind TEXT NOT NULL,                 -- password_reset | staff_reset
    subject TEXT NOT NULL,              -- as in the approval
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT
);
CREATE INDEX approved_resets_subject ON approved_resets (kind, subject);
