"""Writing below one folder and nowhere else: every step relative to a descriptor, no symlink followed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from sovereign_protocols.vault.tree import Entry, Kind, is_safe_name

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 128
# Neither setuid nor setgid nor sticky: whoever wrote the snapshot must not gain rights here.
_RESTORED_MODE = 0o777


class Existing(Enum):
    """What happens to an entry that is there already, and is not the same."""

    REFUSE = "refuse"
    KEEP = "keep"
    REPLACE = "replace"


class ExistsError(OSError):
    """Something else is there already, and must not be replaced."""

    def __init__(self) -> None:
        super().__init__(errno.EEXIST, "exists already and is different; not overwritten")


class Folders:
    """Open descriptors of folders for one piece of work; closed at its end.

    Args:
        root: descriptor of the target folder; stays open.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: dict[tuple[bytes, ...], int] = {}

    def descriptor(self, path: tuple[bytes, ...]) -> int:
        """Return a descriptor of a folder below the root, opened step by step.

        Raises:
            OSError: a step is missing, a symlink or no folder.
        """
        if not path:
            return self._root
        found = self._open.get(path)
        if found is not None:
            return found
        if not is_safe_name(path[-1]):
            raise OSError(errno.EINVAL, "name leaves its folder")
        if len(self._open) >= _MOST_OPEN:
            self.close()
        opened = os.open(path[-1], _FOLDER, dir_fd=self.descriptor(path[:-1]))
        self._open[path] = opened
        return opened

    def close(self) -> None:
        """Close all but the root."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


class TargetTree:
    """The folder that a restore writes into. Safe to use from several threads.

    Args:
        root: the folder; created when missing.
        existing: what happens to entries that are there already.
    """

    def __init__(self, root: Path, existing: Existing) -> None:
        self.created_root = not root.exists()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._existing = existing
        self._fresh: set[tuple[bytes, ...]] = {()} if self.created_root else set()
        # Its own folder inside the target: same file system, and nobody else knows the name.
        self._temporary_name = f".restore-{secrets.token_hex(8)}".encode()
        os.mkdir(self._temporary_name, 0o700, dir_fd=self._root)
        self._temporary = os.open(self._temporary_name, _FOLDER, dir_fd=self._root)

    def free_bytes(self) -> int:
        """Space that an ordinary user may fill."""
        information = os.fstatvfs(self._root)
        return information.f_bavail * information.f_frsize

    def remove_temporary(self) -> None:
        """Remove the folder of unfinished files; nothing can be written after that."""
        if self._temporary < 0:
            return
        for name in os.listdir(self._temporary):
            os.unlink(name, dir_fd=self._temporary)
        os.close(self._temporary)
        self._temporary = -1
        os.rmdir(self._temporary_name, dir_fd=self._root)

    def close(self) -> None:
        """Remove what is left of unfinished files, and let the target go."""
        try:
            self.remove_temporary()
        finally:
            os.close(self._root)

    @contextmanager
    def folders(self) -> Iterator[Folders]:
        """Open folders as needed, for the time of the block."""
        folders = Folders(self._root)
        try:
            yield folders
        finally:
            folders.close()

    def make_folder(self, folders: Folders, path: tuple[bytes, ...]) -> None:
        """Create a folder, or take the one that is there.

        Raises:
            OSError: something else is there.
        """
        parent = folders.descriptor(path[:-1])
        if not is_safe_name(path[-1]):
            raise OSError(errno.EINVAL, "name leaves its folder")
        try:
            os.mkdir(path[-1], 0o700, dir_fd=parent)
            self._fresh.add(path)
        except FileExistsError:
            folders.descriptor(path)

    def is_there(self, folders: Folders, path: tuple[bytes, ...], entry: Entry) -> bool:
        """Whether an entry need not be written, because it is there already, or must be kept.

        Raises:
            ExistsError: something else is there and must not be replaced.
        """
        if path[:-1] in self._fresh:
            return False
        try:
            info = os.stat(path[-1], dir_fd=folders.descriptor(path[:-1]), follow_symlinks=False)
        except FileNotFoundError:
            return False
        if entry.kind is Kind.SYMLINK and stat.S_ISLNK(info.st_mode):
            if os.readlink(path[-1], dir_fd=folders.descriptor(path[:-1])) == entry.content:
                return True
        elif (
            stat.S_ISREG(info.st_mode)
            and entry.kind is Kind.FILE
            and (info.st_size, info.st_mtime_ns) == (entry.size_bytes, entry.mtime_ns)
        ):
            return True
        if self._existing is Existing.REFUSE or stat.S_ISDIR(info.st_mode):
            raise ExistsError
        return self._existing is Existing.KEEP

    def is_fresh(self, path: tuple[bytes, ...]) -> bool:
        """Whether the folder of an entry was made by this restore, so that nothing of others can be in it."""
        return path[:-1] in self._fresh

    def write_whole(
        self, folders: Folders, path: tuple[bytes, ...], entry: Entry, name: bytes, write: Callable[[int], None]
    ) -> None:
        """Write a file in one go, in its own fresh folder but under another name until it is whole.

        The file system puts a new file near others of its folder, and need not look at two folders to rename it.

        Args:
            folders: open folders.
            path: where the file belongs.
            entry: its mode and time.
            name: tells it from other unfinished ones.
            write: writes the content to a descriptor.
        """
        folder = folders.descriptor(path[:-1])
        unfinished = self._temporary_name + b"-" + name
        descriptor = os.open(unfinished, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            write(descriptor)
            _set_mode_and_time(descriptor, entry)
            os.rename(unfinished, path[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(unfinished, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)

    def open_temporary(self, name: bytes) -> int:
        """Open (or create) an unfinished file for writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._temporary)

    def drop_temporary(self, name: bytes) -> None:
        """Remove an unfinished file, if there is one."""
        try:
            os.unlink(name, dir_fd=self._temporary)
        except FileNotFoundError:
            return

    def finish_file(
        self, folders: Folders, descriptor: int, name: bytes, path: tuple[bytes, ...], entry: Entry
    ) -> None:
        """Give an unfinished file its mode and time, and move it to its place.

        Raises:
            ExistsError: something appeared there, and must not be replaced.
        """
        _set_mode_and_time(descriptor, entry)
        self._place(folders, name, path)

    def make_link(self, folders: Folders, path: tuple[bytes, ...], entry: Entry, name: bytes) -> None:
        """Create a symlink as text; it is never followed."""
        os.symlink(entry.content, name, dir_fd=self._temporary)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=self._temporary, follow_symlinks=False)
        self._place(folders, name, path)

    def finish_folder(self, folders: Folders, path: tuple[bytes, ...], entry: Entry) -> None:
        """Give a folder its mode and time, after everything in it is done."""
        if path or entry.mtime_ns:
            # A project of single files has no root of its own; where they go to stays as it was.
            _set_mode_and_time(folders.descriptor(path), entry)

    def _place(self, folders: Folders, name: bytes, path: tuple[bytes, ...]) -> None:
        parent = folders.descriptor(path[:-1])
        if path[:-1] in self._fresh or self._existing is Existing.REPLACE:
            os.rename(name, path[-1], src_dir_fd=self._temporary, dst_dir_fd=parent)
            return
        try:
            os.link(name, path[-1], src_dir_fd=self._temporary, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError as error:
            raise ExistsError from error
        os.unlink(name, dir_fd=self._temporary)


def _set_mode_and_time(descriptor: int, entry: Entry) -> None:
    os.fchmod(descriptor, entry.mode & _RESTORED_MODE)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
