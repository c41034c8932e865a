-- Filing: which kinds of filings there are, as data that the fund edits.

-- Kinds of filings (届書). A kind is never removed: old filings carry its name; it ends.
CREATE TABLE filing_kinds (
    code TEXT PRIMARY KEY,              -- stable, ASCII
    position BIGINT NOT NULL,           -- where a form lists it
    name TEXT NOT NULL UNIQUE,          -- 届書名称, as it stands in file names
    aliases TEXT NOT NULL,              -- other ways to write it, joined by |
    procedure_group TEXT NOT NULL,      -- membership | record | salary | establishment
    form TEXT NOT NULL,                 -- online | paper: needs a seal, comes by post
    event TEXT NOT NULL,                -- from when the deadline counts; may be empty
    within_days BIGINT,                 -- so many days after it
    days_counted TEXT NOT NULL,         -- calendar | working
    month_day BIGINT,                   -- on this day of the month after it
    starts_on TEXT,                     -- 2026-04-01: the first day on which it is taken in
    ends_on TEXT,                       -- the last one
    version BIGINT NOT NULL,            -- counts the edits
    changed_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL
);

INSERT INTO filing_kinds (code, position, name, aliases, procedure_group, form, event, within_days, days_counted, month_day, version, changed_ms, changed_by) VALUES
    ('acquisition', 10, '資格取得届', '加入者資格取得届|取得届|資格取得', 'membership', 'online', '資格を取得した日', 30, 'calendar', 14, 1, 0, 'system'),
    ('loss', 20, '資格喪失届', '加入者資格喪失届|喪失届|資格喪失', 'membership', 'online', '資格を喪失した日', 30, 'calendar', 14, 1, 0, 'system'),
    ('name-change', 30, '氏名変更届', '加入者氏名変更届|氏名変更(訂正)届|氏名変更', 'record', 'online', '氏名が変わった日', 30, 'calendar', 14, 1, 0, 'system'),
    ('salary-change', 40, '基準給与変更届', '基準給与変更|給与変更届', 'salary', 'online', '基準給与が変わった日', NULL, 'calendar', 5, 1, 0, 'system'),
    ('suspension', 50, '中断者届', '中断届', 'membership', 'online', '中断した日', 30, 'calendar', 14, 1, 0, 'system'),
    ('resumption', 60, '復活者届', '復活届', 'membership', 'online', '復活した日', 30, 'calendar', 14, 1, 0, 'system'),
    ('correction', 70, '訂正届', '訂正(変更)届|届出事項訂正届', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('cancellation', 80, '取消届', '届出事項取消届|取り消し届', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('birth-date-change', 90, '生年月日変更届', '生年月日訂正届|生年月日変更(訂正)届', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('sex-change', 100, '性別変更届', '性別訂正届|性別変更(訂正)届', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('pension-number-change', 110, '基礎年金番号変更届', '基礎年金番号届|基礎年金番号訂正届|基礎年金番号変更(訂正)届', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('employer-change', 120, '事業主関係変更届', '事業主変更届|事業主関係変更', 'establishment', 'online', '変更のあった日', 30, 'calendar', NULL, 1, 0, 'system'),
    ('establishment-change', 130, '事業所関係変更届', '事業所変更届|事業所関係変更', 'establishment', 'online', '変更のあった日', 30, 'calendar', NULL, 1, 0, 'system'),
    ('assessment-base', 140, '算定基礎届', '報酬月額算定基礎届', 'salary', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('monthly-salary-change', 150, '月額変更届', '標準給与等月額変更届|標準給与月額変更届', 'salary', 'online', '給与が変わった月から3か月目の末日', NULL, 'calendar', 5, 1, 0, 'system'),
    ('maternity-leave-end', 160, '産休終了時変更届', '産前産後休業終了時変更届', 'salary', 'online', '産前産後休業が終わった日', 30, 'calendar', NULL, 1, 0, 'system'),
    ('childcare-leave-end', 170, '育休終了時変更届', '育児休業終了時変更届', 'salary', 'online', '育児休業が終わった日', 30, 'calendar', NULL, 1, 0, 'system'),
    ('waiting-member', 180, '加入待期者連絡票', '加入待期者届|加入待機者連絡票', 'membership', 'online', '加入待期者となった日', 30, 'calendar', NULL, 1, 0, 'system'),
    ('member-card-reissue', 190, '加入者証再交付申請書', '加入者証再交付届|基金加入者証再交付願', 'record', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('bank-transfer', 200, '預金口座振替依頼書', '口座振替依頼書', 'establishment', 'paper', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('delegation', 210, '業務委託書', '業務委託届', 'establishment', 'paper', '', NULL, 'calendar', NULL, 1, 0, 'system'),
    ('summary', 220, '適用データ届出総括表', '届出総括表|適用データ総括表|総括表', 'membership', 'online', '', NULL, 'calendar', NULL, 1, 0, 'system');

-- The key pair that receipts (受付票) are signed with.
CREATE TABLE receipt_keys (
    id TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,           -- Ed25519, base64
    key_sealed TEXT NOT NULL,           -- PKCS #8
    made_ms BIGINT NOT NULL
);

-- One receipt for each submission, signed when it was received.
CREATE TABLE receipts (
    submission_id TEXT PRIMARY KEY REFERENCES submissions (id),
    key_id TEXT NOT NULL REFERENCES receipt_keys (id),
    content TEXT NOT NULL,              -- what is signed, line by line
    signature TEXT NOT NULL,            -- Ed25519, base64
    code TEXT NOT NULL,                 -- what stands on paper beside the number
    accepted_on TEXT NOT NULL,          -- 2026-11-20: the day that it counts as received on
    counts_month TEXT NOT NULL          -- 2026-10: the month in whose contributions it counts
);

-- Files that the virus scanner knows something against, or cannot judge: kept sealed, and
-- shown to nobody until two people let the sender hand the same file in again.
CREATE TABLE quarantine (
    id TEXT PRIMARY KEY,
    establishment_id TEXT NOT NULL REFERENCES establishments (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    document_id TEXT NOT NULL REFERENCES documents (id),
    file_name TEXT NOT NULL,
    sha256 TEXT NOT NULL,               -- of the file as it came
    size_bytes BIGINT NOT NULL,
    finding TEXT NOT NULL,              -- virus | unscannable
    signature TEXT NOT NULL,            -- the scanner's name for it; may be empty
    state TEXT NOT NULL,                -- held | released | destroyed
    held_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT
);
CREATE UNIQUE INDEX quarantine_held ON quarantine (establishment_id, sha256) WHERE state = 'held';
CREATE INDEX quarantine_state ON quarantine (state, held_ms);
