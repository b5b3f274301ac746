-- What is metered, promised, stated and booked. Every message is kept as it was signed.

-- The running counters of each contract, moved in the same transaction as what they count.
CREATE TABLE meters (
    contract_id TEXT PRIMARY KEY REFERENCES storage_contracts (contract_id),
    metered_at INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    stored_chunks INTEGER NOT NULL CHECK (stored_chunks >= 0),
    gb_seconds INTEGER NOT NULL CHECK (gb_seconds >= 0),
    rest_byte_seconds INTEGER NOT NULL CHECK (rest_byte_seconds BETWEEN 0 AND 999999999),
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0)
) STRICT;

CREATE TRIGGER meters_never_fall BEFORE UPDATE ON meters
WHEN NEW.metered_at < OLD.metered_at OR NEW.bytes_in < OLD.bytes_in OR NEW.bytes_out < OLD.bytes_out
    OR (NEW.gb_seconds, NEW.rest_byte_seconds) < (OLD.gb_seconds, OLD.rest_byte_seconds)
BEGIN
    SELECT RAISE(ABORT, 'a meter never falls');
END;

-- kind: receipt, transfer, report, dispute, statement, credit.
CREATE TABLE settlement_messages (
    message_hash TEXT PRIMARY KEY CHECK (length(message_hash) = 64),
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64),
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    signer TEXT NOT NULL,
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX settlement_messages_contract ON settlement_messages (contract_id, kind, number);
CREATE INDEX settlement_messages_content ON settlement_messages (content_hash);

CREATE TRIGGER settlement_messages_no_update BEFORE UPDATE ON settlement_messages
BEGIN
    SELECT RAISE(ABORT, 'settlement_messages keeps what was signed');
END;

CREATE TRIGGER settlement_messages_no_delete BEFORE DELETE ON settlement_messages
BEGIN
    SELECT RAISE(ABORT, 'settlement_messages keeps what was signed');
END;

-- One voucher for each number of a lane, ever.
CREATE TABLE vouchers (
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    device_id TEXT NOT NULL CHECK (length(device_id) = 64),
    lane INTEGER NOT NULL CHECK (lane >= 0),
    seq INTEGER NOT NULL CHECK (seq >= 1),
    cumulative_micro_vibe INTEGER NOT NULL CHECK (cumulative_micro_vibe >= 0),
    covers_until INTEGER NOT NULL,
    content_hash TEXT NOT NULL UNIQUE CHECK (length(content_hash) = 64),
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (contract_id, device_id, lane, seq)
) STRICT;

CREATE TRIGGER vouchers_follow BEFORE INSERT ON vouchers
WHEN NEW.seq != 1 + (SELECT coalesce(max(seq), 0) FROM vouchers
        WHERE contract_id = NEW.contract_id AND device_id = NEW.device_id AND lane = NEW.lane)
    OR NEW.cumulative_micro_vibe < (SELECT coalesce(max(cumulative_micro_vibe), 0) FROM vouchers
        WHERE contract_id = NEW.contract_id AND device_id = NEW.device_id AND lane = NEW.lane)
BEGIN
    SELECT RAISE(ABORT, 'vouchers of a lane count up by one and never fall');
END;

CREATE TRIGGER vouchers_no_update BEFORE UPDATE ON vouchers
BEGIN
    SELECT RAISE(ABORT, 'vouchers keeps what was signed');
END;

CREATE TRIGGER vouchers_no_delete BEFORE DELETE ON vouchers
BEGIN
    SELECT RAISE(ABORT, 'vouchers keeps what was signed');
END;

-- Double entry, hash-chained: hash covers the entry, its postings and the hash before it.
CREATE TABLE ledger_entries (
    seq INTEGER PRIMARY KEY CHECK (seq >= 1),
    prev_hash TEXT NOT NULL CHECK (length(prev_hash) = 64),
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (length(cause) = 64),
    hash TEXT NOT NULL UNIQUE CHECK (length(hash) = 64),
    UNIQUE (kind, cause)
) STRICT;

CREATE TABLE ledger_postings (
    seq INTEGER NOT NULL REFERENCES ledger_entries (seq),
    line INTEGER NOT NULL CHECK (line >= 0),
    account TEXT NOT NULL,
    amount_micro_vibe INTEGER NOT NULL,
    PRIMARY KEY (seq, line)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_postings_account ON ledger_postings (account);

CREATE TABLE ledger_balances (
    account TEXT PRIMARY KEY,
    balance_micro_vibe INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_postings_balance AFTER INSERT ON ledger_postings
BEGIN
    INSERT INTO ledger_balances (account, balance_micro_vibe) VALUES (NEW.account, NEW.amount_micro_vibe)
    ON CONFLICT (account) DO UPDATE SET balance_micro_vibe = balance_micro_vibe + NEW.amount_micro_vibe;
END;

CREATE TRIGGER ledger_entries_no_update BEFORE UPDATE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_entries_no_delete BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_postings_no_update BEFORE UPDATE ON ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_postings_no_delete BEFORE DELETE ON ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
