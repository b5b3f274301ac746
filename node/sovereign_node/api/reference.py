"""Write docs/api/openapi.json: ``python -m sovereign_node.api.reference``."""

from __future__ import annotations

import json
import sys
from typing import cast

from sovereign_node.api.operations import openapi_document
from sovereign_node.node import Node
from sovereign_node.operations.table import all_operations
from sovereign_node.version import VERSION


def reference() -> str:
    """Return the OpenAPI file; no node is needed, since operations look at theirs only when they run."""
    operations = all_operations(cast(Node, None))
    return json.dumps(openapi_document(operations, VERSION), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
