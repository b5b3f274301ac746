"""The registry of domain strings is the only place that holds one."""

from pathlib import Path

from sovereign_crypto import domains
from sovereign_crypto.domains import Domain

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "crypto/sovereign_crypto",
    "protocols/sovereign_protocols",
    "node/sovereign_node",
    "devnet/sovereign_devnet",
]
START = "svrn/" + "v1"


def test_strings_are_unique_and_well_formed():
    values = [domain.value for domain in Domain]
    assert len(values) == len(set(values)) == len(Domain.__members__)
    for value in values:
        assert value.startswith(START + "/")
        assert value.isascii()
        assert value.islower() or "-" in value


def test_no_prefix_is_the_start_of_another():
    prefixes = [domain.prefix for domain in Domain]
    for one in prefixes:
        assert one.endswith(b"\0")
        assert b"\0" not in one[:-1]
        assert not any(other != one and other.startswith(one) for other in prefixes)


def test_no_literal_outside_the_registry():
    registry = Path(domains.__file__).resolve()
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert registry in sources
    offenders = [str(path) for path in sources if path != registry and START in path.read_text("utf-8")]
    assert offenders == []
