-- Contracts of others that name this device as an observer.
CREATE TABLE appointments (
    contract_id TEXT PRIMARY KEY CHECK (length(contract_id) = 64),
    revision INTEGER NOT NULL,
    customer_identity TEXT NOT NULL,
    provider_identity TEXT NOT NULL,
    provider_device TEXT NOT NULL,
    ends_at INTEGER NOT NULL,
    customer_raw BLOB NOT NULL,
    provider_raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX appointments_provider ON appointments (provider_device, ends_at);
