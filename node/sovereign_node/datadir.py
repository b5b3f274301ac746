"""The data directory of one device: where things lie, who may read them, the lock.

Only one node may run on a data directory; the lock file names its process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sovereign_node.errors import ExitCode, NodeError

ENVIRONMENT_VARIABLE = "SOVEREIGN_DATA_DIR"


def default_data_dir() -> Path:
    """Return the directory of ``SOVEREIGN_DATA_DIR`` or the platform's place for user data."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_data_dir("sovereign"))


@dataclass(frozen=True)
class DataDir:
    """Paths below one data directory.

    Args:
        root: the directory; need not exist yet.
    """

    root: Path

    @property
    def config(self) -> Path:
        """Settings, TOML."""
        return self.root / "config.toml"

    @property
    def state(self) -> Path:
        """State database, SQLite."""
        return self.root / "state.sqlite"

    @property
    def keys(self) -> Path:
        """Sealed device keys and the key slot of the identity root."""
        return self.root / "keys"

    @property
    def chunks(self) -> Path:
        """Chunk store: chunks of others on a provider, own chunks that wait for a provider."""
        return self.root / "chunks"

    @property
    def spool(self) -> Path:
        """Temporary files: copies of live databases while they are backed up."""
        return self.root / "spool"

    @property
    def cache(self) -> Path:
        """Caches that may be thrown away."""
        return self.root / "cache"

    @property
    def api_file(self) -> Path:
        """Address and token of the running node's local API."""
        return self.root / "run" / "api.json"

    @property
    def lock_file(self) -> Path:
        """Lock that the running node holds; contains its process id."""
        return self.root / "run" / "node.lock"

    def is_initialised(self) -> bool:
        """Tell whether an identity lives here."""
        return self.config.exists() and self.keys.exists()

    def create(self) -> None:
        """Make the directory tree, readable by the owner alone."""
        for path in (self.root, self.keys, self.chunks, self.spool, self.cache, self.api_file.parent):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)

    def require_initialised(self) -> None:
        """Refuse a directory without an identity.

        Raises:
            NodeError: nothing has been set up here, or a part is missing.
        """
        if self.state.exists() and not self.is_initialised():
            missing = self.config if self.keys.exists() else self.keys
            raise NodeError(
                "device_incomplete",
                f"{missing} is missing",
                "put it back from a copy; config.toml can also be written anew, with name and roles",
            )
        if not self.is_initialised():
            raise NodeError(
                "not_initialised",
                f"there is no Sovereign device in {self.root}",
                "create one with `sovereign init`, or bring an identity back with `sovereign join`",
            )

    def read_pid(self) -> int | None:
        """Return the process id that the lock file names, None if there is none."""
        try:
            return int(self.lock_file.read_text("ascii"))
        except (OSError, ValueError):
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against a second node.

        Raises:
            NodeError: another process holds it; the message has its pid.
        """
        self.lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                pid = self.read_pid() or "unknown"
                raise NodeError(
                    "in_use",
                    f"the data directory {self.root} is in use by the node with pid {pid}",
                    "stop it with `sovereign down`, or choose another --data-dir",
                    ExitCode.IN_USE,
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def write_private_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash leaves the old or the new content, mode 0600.

    Raises:
        OSError: the file system refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a rename or a new file below ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private_file(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        NodeError: others could have read or changed it.
    """
    status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise NodeError(
            "unsafe_permissions",
            f"{path} must belong to you and be readable by you alone",
            f"check who could have read it, then run: chmod 600 {path}",
        )
    return path.read_bytes()
