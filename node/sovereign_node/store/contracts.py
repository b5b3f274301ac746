"""storage_contracts and the signed messages behind them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from sovereign_node.store.database import Database
from sovereign_node.store.rows import find_by_prefix

# Contracts in these states hold data that must stay readable.
LIVE_STATES = ("active", "renewing", "limited", "grace", "ending", "defaulted", "terminated")


@dataclass(frozen=True)
class Contract:
    """One row of storage_contracts: the terms in force and the counters.

    Args:
        contract_id: hash of the terms that both parties signed first, 32 bytes.
        role: this node's side, customer or provider.
        state: a state of the contract's life, see the market specification.
        capacity_bytes: what the provider keeps free for this contract.
        stored_bytes: what is stored now.
        period_s: length of a billing period.
        grace_s: how long released chunks stay recoverable.
        revision: number of the terms in force, 0 for the first.
        started_at, ends_at, state_changed_at: Unix seconds UTC.
    """

    contract_id: bytes
    role: str
    state: str
    provider_identity: bytes
    provider_device: bytes
    customer_identity: bytes
    customer_device: bytes
    capacity_bytes: int
    price_micro_vibe_per_gb_month: int
    price_micro_vibe_per_gb_transfer: int
    started_at: int
    ends_at: int
    period_s: int
    grace_s: int
    state_changed_at: int
    budget_micro_vibe: int = 0
    credit_limit_micro_vibe: int = 0
    revision: int = 0
    stored_bytes: int = 0
    stored_chunks: int = 0


_COLUMNS = tuple(field.name for field in fields(Contract))
_BYTES_COLUMNS = frozenset(
    ("contract_id", "provider_identity", "provider_device", "customer_identity", "customer_device")
)
# Counters belong to the chunk service: new terms never reset them.
_TERMS_COLUMNS = tuple(
    name for name in _COLUMNS if name not in ("contract_id", "role", "stored_bytes", "stored_chunks")
)


@dataclass(frozen=True)
class ContractStatement:
    """A signed message about a contract, exactly as received."""

    statement_hash: bytes
    contract_id: bytes
    statement_type: int
    signer: bytes
    revision: int
    raw: bytes
    received_at: int


def _contract(row: sqlite3.Row) -> Contract:
    values: dict[str, Any] = {
        name: bytes.fromhex(row[name]) if name in _BYTES_COLUMNS else row[name] for name in _COLUMNS
    }
    return Contract(**values)


class Contracts:
    """Reads and writes of storage_contracts and contract_statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, contract: Contract, statements: Sequence[ContractStatement] = ()) -> None:
        """Add a contract or put new terms in force, with the messages that say so, in one transaction.

        The counters of an existing contract stay as they are.

        Args:
            contract: its row.
            statements: signed messages to keep; known ones are skipped.
        """
        values = [value.hex() if isinstance(value, bytes) else value for value in astuple(contract)]
        marks = ", ".join("?" * len(_COLUMNS))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _TERMS_COLUMNS)
        with self._database.transaction():
            self._database.execute(
                f"INSERT INTO storage_contracts ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608
                f" ON CONFLICT (contract_id) DO UPDATE SET {changes}",
                values,
            )
            for statement in statements:
                self.add_statement(statement)

    def add_statement(self, statement: ContractStatement) -> bool:
        """Keep a signed message.

        Returns:
            False if it was known already.
        """
        changed = self._database.execute(
            "INSERT INTO contract_statements (statement_hash, contract_id, statement_type, signer, revision,"
            " raw, received_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (statement_hash) DO NOTHING",
            (
                statement.statement_hash.hex(),
                statement.contract_id.hex(),
                statement.statement_type,
                statement.signer.hex(),
                statement.revision,
                statement.raw,
                statement.received_at,
            ),
        )
        return changed == 1

    def statements(self, contract_id: bytes) -> list[ContractStatement]:
        """Read the signed messages of a contract, oldest revision first."""
        rows = self._database.query(
            "SELECT * FROM contract_statements WHERE contract_id = ? ORDER BY revision, received_at, rowid",
            (contract_id.hex(),),
        )
        return [
            ContractStatement(
                statement_hash=bytes.fromhex(row["statement_hash"]),
                contract_id=bytes.fromhex(row["contract_id"]),
                statement_type=row["statement_type"],
                signer=bytes.fromhex(row["signer"]),
                revision=row["revision"],
                raw=row["raw"],
                received_at=row["received_at"],
            )
            for row in rows
        ]

    def get(self, contract_id: bytes) -> Contract | None:
        """Read one contract by its 32-byte id."""
        row = self._database.query_one(
            "SELECT * FROM storage_contracts WHERE contract_id = ?", (contract_id.hex(),)
        )
        return None if row is None else _contract(row)

    def find(self, text: str) -> list[Contract]:
        """Find contracts by the start of their id."""
        return find_by_prefix(self._database, "storage_contracts", "contract_id", text, _contract)

    def all(
        self, *, role: str | None = None, states: Sequence[str] = (), customer_identity: bytes | None = None
    ) -> list[Contract]:
        """Read contracts, oldest first.

        Args:
            role: only those in which this node is customer or provider.
            states: only those in one of these states; empty for all.
            customer_identity: only those of this customer.
        """
        marks = ", ".join("?" * len(states))
        in_states = f" AND state IN ({marks})" if states else ""
        customer = None if customer_identity is None else customer_identity.hex()
        rows = self._database.query(
            "SELECT * FROM storage_contracts WHERE (? IS NULL OR role = ?)"  # noqa: S608
            f" AND (? IS NULL OR customer_identity = ?){in_states} ORDER BY started_at, contract_id",
            (role, role, customer, customer, *states),
        )
        return [_contract(row) for row in rows]

    def set_state(self, contract_id: bytes, state: str, at: int) -> bool:
        """Move a contract to another state; the market core decides which moves are allowed.

        Returns:
            Whether the contract is known.
        """
        changed = self._database.execute(
            "UPDATE storage_contracts SET state = ?, state_changed_at = ? WHERE contract_id = ?",
            (state, at, contract_id.hex()),
        )
        return changed == 1

    def set_stored(self, contract_id: bytes, *, stored_bytes: int, stored_chunks: int) -> bool:
        """Write what the chunk store holds for a contract; returns whether the contract is known."""
        changed = self._database.execute(
            "UPDATE storage_contracts SET stored_bytes = ?, stored_chunks = ? WHERE contract_id = ?"
            " AND (stored_bytes, stored_chunks) IS NOT (?, ?)",
            (stored_bytes, stored_chunks, contract_id.hex(), stored_bytes, stored_chunks),
        )
        return changed == 1 or self.get(contract_id) is not None

    def committed_bytes(self) -> int:
        """Sum the capacity that this node, as a provider, has promised and not yet given back."""
        row = self._database.query_one(
            "SELECT coalesce(sum(capacity_bytes), 0) AS total FROM storage_contracts"
            " WHERE role = 'provider' AND state NOT IN ('proposed', 'closed')"
        )
        assert row is not None
        return int(row["total"])
