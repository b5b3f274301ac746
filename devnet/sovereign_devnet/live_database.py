"""A SQLite database that another process keeps writing to, and the proof that a copy of it is consistent.

The database is a small bank: every transaction moves money between two accounts and writes a line about it, so the
sum never changes and each line has its effect. A copy that was torn out of the middle of a transaction shows.

SQL is only written in ``sovereign_node.store``; this database therefore lives in child processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sovereign_devnet.errors import DevnetError

START_TIMEOUT_S = 20
ACCOUNTS = 500
BALANCE = 1000


@dataclass(frozen=True)
class DatabaseState:
    """What is in a database.

    Args:
        integrity: answer of ``PRAGMA integrity_check``, ``ok`` if all is well.
        total: sum of all accounts.
        transfers: number of lines.
        replayed: True if the lines explain every balance.
        digest: of all rows, hex.
    """

    integrity: str
    total: int
    transfers: int
    replayed: bool
    digest: str

    @property
    def is_consistent(self) -> bool:
        """True if no transaction is there in part."""
        return self.integrity == "ok" and self.total == ACCOUNTS * BALANCE and self.replayed


class LiveWriter:
    """Writes to a database from a process of its own for the length of the block.

    Args:
        path: of the database; made if missing.
        seed: of the transactions.
    """

    def __init__(self, path: Path, seed: int = 1) -> None:
        self._path = path
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LiveWriter:
        words = [sys.executable, "-c", _WRITER, str(self._path), str(self._seed), str(ACCOUNTS), str(BALANCE)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "writing":
            self.stop()
            raise DevnetError("the database writer did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the writer finish its transaction and end."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # The writer ends at the end of its input, so it never outlives this process either.
            process.communicate(timeout=START_TIMEOUT_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise


def inspect_database(path: Path) -> DatabaseState:
    """Read a database and check it.

    Raises:
        DevnetError: it cannot be read at all.
    """
    finished = subprocess.run(
        [sys.executable, "-c", _INSPECT, str(path), str(BALANCE)], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise DevnetError(f"{path} cannot be read: {finished.stderr.strip()[-500:]}")
    return DatabaseState(**json.loads(finished.stdout))


_WRITER = """
import random, select, sqlite3, sys
path, seed, accounts, balance = sys.argv[1], *map(int, sys.argv[2:])
source = random.Random(seed)
bank = sqlite3.connect(path, isolation_level=None, timeout=30)
bank.execute("PRAGMA journal_mode = WAL")
bank.execute("PRAGMA synchronous = NORMAL")
bank.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
bank.execute("CREATE TABLE IF NOT EXISTS transfer "
             "(id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER, note TEXT)")
bank.execute("CREATE INDEX IF NOT EXISTS transfer_by_note ON transfer (note)")
bank.execute("BEGIN")
bank.executemany("INSERT OR IGNORE INTO account VALUES (?, ?)", [(n, balance) for n in range(accounts)])
bank.execute("COMMIT")
print("writing", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    bank.execute("BEGIN IMMEDIATE")
    for _ in range(20):
        giver, taker, amount = source.randrange(accounts), source.randrange(accounts), source.randint(1, 50)
        bank.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, giver))
        bank.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, taker))
        bank.execute("INSERT INTO transfer (source, target, amount, note) VALUES (?, ?, ?, ?)",
                     (giver, taker, amount, "%032x" % source.getrandbits(128)))
    bank.execute("COMMIT")
bank.close()
"""

_INSPECT = """
import hashlib, json, os, sqlite3, sys, urllib.parse
path, balance = sys.argv[1], int(sys.argv[2])
# Without a log to read, immutable keeps SQLite from leaving files of its own beside the database.
options = "?mode=ro" + ("" if os.path.exists(path + "-wal") else "&immutable=1")
bank = sqlite3.connect("file:" + urllib.parse.quote(path) + options, uri=True)
integrity = "; ".join(row[0] for row in bank.execute("PRAGMA integrity_check"))
accounts = dict(bank.execute("SELECT id, balance FROM account"))
expected, transfers, digest = dict.fromkeys(accounts, balance), 0, hashlib.sha256()
for row in bank.execute("SELECT id, source, target, amount, note FROM transfer ORDER BY id"):
    transfers += 1
    expected[row[1]] -= row[3]
    expected[row[2]] += row[3]
    digest.update(repr(row).encode())
digest.update(repr(sorted(accounts.items())).encode())
print(json.dumps({"integrity": integrity, "total": sum(accounts.values()), "transfers": transfers,
                  "replayed": expected == accounts, "digest": digest.hexdigest()}))
"""
