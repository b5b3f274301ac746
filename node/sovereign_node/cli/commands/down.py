"""``sovereign down``: stop the running node."""

import fcntl
import time
from collections.abc import Callable

from sovereign_node.api.client import read_endpoint
from sovereign_node.cli.application import app
from sovereign_node.cli.session import Session, command
from sovereign_node.datadir import DataDir
from sovereign_node.errors import NodeError

STOP_TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.05


@command(app, "down")
def down(session: Session) -> None:
    """Stop the node, and wait until it has stopped."""
    pid = read_endpoint(session.data_dir).pid
    try:
        session.call("shutdown")
    except NodeError as error:
        if error.code != "node_gone":  # it may be gone before its answer is out
            raise
    wait_stopped(session.data_dir, pid)
    session.report({"stopped": True, "pid": pid}, lambda _: ["The node has stopped."])


def wait_stopped(data_dir: DataDir, pid: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until the node has removed its endpoint file and given up the data directory.

    Raises:
        NodeError: it still holds the directory after 15 s.
    """
    for _ in range(int(STOP_TIMEOUT_S / POLL_INTERVAL_S)):
        if not data_dir.api_file.exists() and _is_free(data_dir):
            return
        sleep(POLL_INTERVAL_S)
    raise NodeError(
        "still_running",
        f"the node with pid {pid} has not stopped within {STOP_TIMEOUT_S:.0f} s",
        f"look at its output, or end it with: kill {pid}",
    )


def _is_free(data_dir: DataDir) -> bool:
    try:
        with data_dir.lock_file.open("rb") as file:
            # Shared and for a moment only, so that a node that is just starting is hardly ever in the way.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
