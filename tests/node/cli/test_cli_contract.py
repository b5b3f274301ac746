"""The command line asks only for what the node's table of operations takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sovereign_node.api.operations import Operation, parse_parameters
from sovereign_node.node import Node
from sovereign_node.operations.table import all_operations

# The functions of the table touch the node only when they run, and here none runs.
TABLE: dict[str, Operation] = all_operations(cast(Node, None))

COMMANDS = [
    "status",
    "offers",
    "contract open big --capacity 5GB --months 3",
    "contract open big --capacity 5GB --bonus sponsor --sponsor abcd",
    "contract list",
    "contract show 12",
    "contract renew 12 --months 6 --capacity 10GB",
    "contract close 12",
    "wallet",
    "sponsor grant 12 12D3 --budget 20 --months 3",
    "sponsor list",
    "transfer ab 5",
    "pay ab $0.05",
    "settle 12 --confirm",
    "bill 12",
    "statement 12 --export csv",
    "quote restore --project docs --months 2",
    "quote storage --size 5GB",
    "ledger verify",
    "dispute export 12 --to out",
    "backup docs --dry-run",
    "provider contracts",
    "provider earnings --forecast",
    "provider maintenance announce --in 2h --for 20min",
    "provider drain --stop",
    "protect dir --name docs --copies 2",
    "unprotect docs",
    "projects",
    "backup",
    "backup docs",
    "snapshots docs",
    "ls docs sub -s ef -r",
    "restore docs --to out -s ef --path sub --overwrite changed --dry-run",
    "verify docs --read-data=10%",
    "forget docs --keep-last 1 --keep-daily 2 --keep-weekly 3 --keep-monthly 4 --keep-yearly 5 -s ef -n",
    "forget docs --keep-within 30d",
    "gc docs --dry-run",
    "repair index docs",
    "devices",
    "peers",
    "ping studio --count 2",
    "doctor",
    "provider status",
    "provider offer set --capacity 1TB --price 3 --transfer-price 0.5 --reserve 2GB",
    "provider export --to out --contract 12",
    "provider scrub",
    "audit log --limit 5 --verify",
    "device revoke 12ab --passphrase-command hostname",
    "device renew --passphrase-command hostname",
    "limits show",
    "limits set --up 500KB --metered auto",
    "limits clear",
    "config show",
    "down",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_node_takes_what_the_command_sends(cli: Any, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    asked: list[tuple[str, dict[str, Any], bool]] = []

    class Enough(Exception):
        pass

    def asking(streams: bool) -> Any:
        def ask(_client: Any, operation: str, parameters: Any = None) -> Any:
            asked.append((operation, {k: v for k, v in (parameters or {}).items() if v is not None}, streams))
            raise Enough

        return ask

    monkeypatch.setattr("sovereign_node.api.client.ApiClient.call", asking(False))
    monkeypatch.setattr("sovereign_node.api.client.ApiClient.stream", asking(True))
    monkeypatch.setattr("sovereign_node.cli.commands.down.read_endpoint", lambda _data_dir: SimpleNamespace(pid=7))
    cli(*line.split())
    [(operation, parameters, streams)] = asked
    parse_parameters(TABLE[operation].parameters, parameters)
    assert TABLE[operation].streams is streams


def test_every_operation_has_a_command() -> None:
    assert set(TABLE) - {"kit_confirm"} <= OPERATIONS_OF_COMMANDS


OPERATIONS_OF_COMMANDS = {
    *("status", "offers", "contract_open", "contract_list", "contract_show"),
    *("protect", "unprotect", "project_list", "placement"),
    *("backup", "snapshots", "ls", "restore", "verify", "forget", "gc", "repair_index", "devices", "peers", "ping"),
    *("doctor", "provider_status", "provider_offer_set", "provider_export", "provider_scrub", "audit_log"),
    *("config_show", "shutdown", "limits", "limits_set", "limits_clear", "device_revoke", "device_renew"),
    *("wallet", "sponsor_grant", "sponsor_list"),
    *("transfer", "settle", "bill", "statements", "quote", "ledger_verify", "dispute_export"),
    *("audit_now", "uptime"),
    *("contract_renew", "contract_close", "provider_contracts", "earnings", "maintenance_announce", "drain"),
}
