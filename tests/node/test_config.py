from pathlib import Path

import pytest

from sovereign_node.config import (
    Config,
    NetConfig,
    ProviderConfig,
    load_config,
    reference,
    save_config,
    with_overrides,
)
from sovereign_node.errors import NodeError


def test_saved_settings_are_read_back(tmp_path: Path) -> None:
    config = Config(
        name="studio",
        roles=("server", "provider"),
        net=NetConfig(listen=("/ip4/127.0.0.1/tcp/0",), mdns=False),
        provider=ProviderConfig(capacity_bytes=7),
    )
    save_config(config, tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == config
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nmae = 'x'", "nmae"),
        ("[net]\nlisten = 'x'", "net.listen"),
        ("[net]\nmdns = 1", "net.mdns"),
        ("[provider]\ncapacity_bytes = 1.5", "provider.capacity_bytes"),
        ("net = 3", "net"),
        ("roles = ['boss']", "boss"),
        ("[net]\nstack = 'quick'", "quick"),
        ("[backup]\ncopies = 0", "copies"),
        ("= 3", "config.toml"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(NodeError, match=named):
        load_config(path)


def test_listen_replaces_and_bootstrap_adds() -> None:
    config = Config(net=NetConfig(listen=("a",), bootstrap=("b", "c")))
    changed = with_overrides(config, listen=("x",), bootstrap=("c", "d"))
    assert changed.net.listen == ("x",)
    assert changed.net.bootstrap == ("c", "d", "b")
    assert with_overrides(config) == config


def test_reference_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert written.read_text() == reference(), "run: python -m sovereign_node.config > docs/configuration.md"


def test_number_of_connections_follows_the_role() -> None:
    assert Config(roles=("mobile",)).connection_limit == 60
    assert Config(roles=("provider",)).connection_limit == 400
    assert Config(roles=("provider",), net=NetConfig(max_connections=7)).connection_limit == 7
