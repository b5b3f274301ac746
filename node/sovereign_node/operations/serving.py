"""The local API of a running node, with every operation."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from sovereign_node.api.server import LocalApi
from sovereign_node.datadir import write_private_file
from sovereign_node.node import Node
from sovereign_node.operations.table import all_operations
from sovereign_node.translate import translate_error
from sovereign_node.version import VERSION


@asynccontextmanager
async def serve_api(node: Node, port: int | None) -> AsyncIterator[LocalApi]:
    """Serve the local API for the length of the block and tell commands where it is.

    Args:
        node: whose operations are served.
        port: TCP port; None for the configured one.
    """
    api = LocalApi(all_operations(node), VERSION, translate_error, node.config.api_port if port is None else port)
    document = {"url": api.url, "token": api.token, "pid": os.getpid(), "version": VERSION}
    async with trio.open_nursery() as nursery:
        await nursery.start(api.run)
        write_private_file(node.data_dir.api_file, json.dumps(document).encode())
        try:
            yield api
        finally:
            node.data_dir.api_file.unlink(missing_ok=True)
            nursery.cancel_scope.cancel()
