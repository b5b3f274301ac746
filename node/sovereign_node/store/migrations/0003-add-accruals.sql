-- The cost of a contract before its open lines, and the reading of the meter at which those lines began.
CREATE TABLE accruals (
    contract_id TEXT PRIMARY KEY REFERENCES storage_contracts (contract_id),
    closed_micro_vibe INTEGER NOT NULL CHECK (closed_micro_vibe >= 0),
    price_micro_vibe_per_gb_month INTEGER NOT NULL,
    price_micro_vibe_per_gb_transfer INTEGER NOT NULL,
    bonus_permille INTEGER NOT NULL,
    since_at INTEGER NOT NULL,
    since_gb_seconds INTEGER NOT NULL,
    since_rest_byte_seconds INTEGER NOT NULL CHECK (since_rest_byte_seconds BETWEEN 0 AND 999999999),
    since_bytes_in INTEGER NOT NULL,
    since_bytes_out INTEGER NOT NULL
) STRICT;

CREATE TRIGGER accruals_never_fall BEFORE UPDATE ON accruals
WHEN NEW.closed_micro_vibe < OLD.closed_micro_vibe OR NEW.since_at < OLD.since_at
BEGIN
    SELECT RAISE(ABORT, 'what accrued never falls');
END;
