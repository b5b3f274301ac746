"""Fixtures of tests that run whole nodes."""

from __future__ import annotations

from collections.abc import Iterator

import keyring
import keyring.backends.null
import pytest


@pytest.fixture
def no_keyring() -> Iterator[None]:
    """Keep device keys under a file: the tests' nodes must not touch the keyring of whoever runs them."""
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)
