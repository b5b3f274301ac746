"""Real files for test networks: this program's own source, noise, odd names, and markers nobody may ever see."""

from __future__ import annotations

import os
import random
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import sovereign_crypto
import sovereign_devnet
import sovereign_node
import sovereign_protocols

_PACKAGES = (sovereign_crypto, sovereign_protocols, sovereign_node, sovereign_devnet)
_MIB = 1024 * 1024
_NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Markers:
    """Words planted where only their owner may ever see them.

    Args:
        content: in the text of a file.
        file_name: part of a file's and a folder's name.
        project: name of the project.
        passphrase: of the identity.
    """

    content: str
    file_name: str
    project: str
    passphrase: str

    @classmethod
    def plant(cls) -> Markers:
        """Return fresh ones."""
        return cls(*(f"{word}-{secrets.token_hex(8)}" for word in ("content", "name", "project", "passphrase")))


def make_home(folder: Path, markers: Markers, *, seed: int, noise_bytes: int) -> None:
    """Make a folder as people have them.

    Args:
        folder: must not exist.
        markers: planted into content and names.
        seed: of everything that is random but the markers.
        noise_bytes: incompressible bytes, like photos.
    """
    source = random.Random(seed)  # noqa: S311 - test data, not a secret
    folder.mkdir(parents=True)
    for package in _PACKAGES:
        shutil.copytree(Path(package.__path__[0]), folder / "source" / package.__name__, ignore=_NOT_SOURCE)
    photos = folder / "photos"
    photos.mkdir()
    for number in range(4):
        write_noise(photos / f"photo {number}.jpg", source, noise_bytes // 4)
    shutil.copy(photos / "photo 0.jpg", photos / "copy of photo 0.jpg")
    _make_secret(folder / f"private {markers.file_name}", markers)
    _make_oddities(folder / "odd")


def write_noise(path: Path, source: random.Random, size_bytes: int) -> None:
    """Write incompressible bytes that depend on the generator alone."""
    with path.open("wb") as file:
        while size_bytes > 0:
            file.write(source.randbytes(min(size_bytes, _MIB)))
            size_bytes -= _MIB


def _make_secret(folder: Path, markers: Markers) -> None:
    folder.mkdir(mode=0o700)
    letter = folder / f"letter {markers.file_name}.txt"
    # Repeated, so that it compresses and is stored in every way that text may be.
    letter.write_text(f"{markers.content} is known to nobody else.\n" * 500, "utf-8")
    letter.chmod(0o600)
    (folder / "short.txt").write_text(markers.content, "utf-8")


def _make_oddities(folder: Path) -> None:
    folder.mkdir()
    (folder / "empty folder").mkdir(mode=0o750)
    (folder / "empty file").touch()
    (folder / "Grüße – 你好 🎈.txt").write_text("names are not only ASCII\n", "utf-8")
    (folder / "line\nbreak and 'quotes'").write_text("names may hold anything but a slash\n", "utf-8")
    _write_undecodable_name(folder)
    script = folder / "script.sh"
    script.write_text("#!/bin/sh\necho kept\n", "utf-8")
    script.chmod(0o755)
    protected = folder / "read-only.txt"
    protected.write_text("cannot be changed by mistake\n", "utf-8")
    protected.chmod(0o440)
    (folder / "link to script").symlink_to("script.sh")
    (folder / "dangling link").symlink_to("nowhere/at all")
    (folder / "link out").symlink_to("../photos")
    with (folder / "sparse.img").open("wb") as file:
        file.truncate(3 * _MIB)
    old = 981_173_106_123_456_789
    os.utime(folder / "script.sh", ns=(old, old))
    os.utime(folder / "empty folder", ns=(old, old))
    os.utime(folder / "dangling link", ns=(old, old), follow_symlinks=False)


def _write_undecodable_name(folder: Path) -> None:
    try:
        path = os.fsencode(folder) + b"/latin-1 \xe9"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError:
        return  # file systems of macOS take only UTF-8 names
    os.close(descriptor)
