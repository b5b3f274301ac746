"""Installs js-libp2p, and runs peers of it."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from js_process import JsPeer, JsPeers

SCRIPTS = Path(__file__).parent / "js"
INSTALL_TIMEOUT_S = 300
_NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


def _install() -> str:
    """Install the packages of the lockfile once; return why that is impossible here, or nothing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js and npm are not installed"
    with (SCRIPTS / "package.json").open() as file:
        # Tests run in several processes, and one installation is enough.
        fcntl.flock(file, fcntl.LOCK_EX)
        lock = (SCRIPTS / "package-lock.json").read_bytes()
        installed = SCRIPTS / "node_modules" / ".installed"
        if installed.is_file() and installed.read_bytes() == lock:
            return ""
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts"],
            cwd=SCRIPTS,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        if done.returncode and any(sign in done.stderr for sign in _NO_NETWORK):
            return "the packages of js-libp2p can not be fetched without network"
        assert done.returncode == 0, done.stderr
        installed.write_bytes(lock)
        return ""


@pytest.fixture(scope="session")
def js_packages() -> None:
    """Skip what needs JavaScript where that is not to be had."""
    if reason := _install():
        pytest.skip(reason)


@pytest.fixture
def js_peer(js_packages: None) -> JsPeers:
    """Run a peer: ``async with js_peer(security="noise", key_type="Ed25519") as peer``."""

    @asynccontextmanager
    async def run(
        *,
        seed: bytes | None = None,
        security: str = "noise",
        key_type: str = "Ed25519",
        listen: Sequence[str] = ("/ip4/127.0.0.1/tcp/0",),
        relay: bool = False,
    ) -> AsyncIterator[JsPeer]:
        seed = seed or secrets.token_bytes(32)
        words = [seed.hex(), security, key_type, ",".join(listen), *(["relay"] if relay else [])]
        process = await trio.lowlevel.open_process(
            ["node", "peer.mjs", *words],
            cwd=SCRIPTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            peer = JsPeer(process, seed)
            about = await peer.call("about")
            peer.peer_id, peer.addresses = about["peer_id"], about["addresses"]
            yield peer
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)

    return run
