"""The process of a node is set up, and goes on working."""

import subprocess
import sys

_CODE = """
import gc, sys, threading
from sovereign_node.interpreter import set_up_interpreter
set_up_interpreter()
assert sys.getswitchinterval() < 0.005
assert gc.get_freeze_count() > 1000
assert gc.isenabled()
blocks = []
thread = threading.Thread(target=lambda: blocks.append(bytes(40 * 1024 * 1024)))
thread.start()
thread.join()
assert len(blocks[0]) == 40 * 1024 * 1024
"""


def test_everything_works_after_set_up():
    # In a process of its own: it holds for the rest of a process's life.
    subprocess.run([sys.executable, "-c", _CODE], check=True)
