"""What every test needs."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """A test that configures logging would leave the next one with its own, closed, standard error."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
