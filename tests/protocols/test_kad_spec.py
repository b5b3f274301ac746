"""The written limits of the DHT are those of the code."""

import re
from pathlib import Path

from sovereign_protocols import kad
from sovereign_protocols.discovery import records as discovery
from sovereign_protocols.kad import core, lookup, messages, records, shell, table

SPECS = Path(__file__).parents[2] / "protocols/specs"
KAD = (SPECS / "kad.md").read_text(encoding="utf-8")
DISCOVERY = (SPECS / "discovery.md").read_text(encoding="utf-8")


def limits() -> dict[str, str]:
    section = KAD.split("## Limits")[1].split("##")[0]
    return {row[0].strip(): row[1].strip() for row in re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)}


def test_protocol_id():
    assert KAD.startswith(f"# DHT `{kad.PROTOCOL_ID}`")


def test_limits():
    hour = 3600
    assert limits() == {
        "what": "limit",
        "message": f"{messages.MAX_MESSAGE_BYTES} bytes, checked before its body is read",
        "value": f"{messages.MAX_VALUE_BYTES} bytes",
        "peers used of one list, addresses of a peer, bytes of an address": (
            f"{messages.MAX_PEERS}, {messages.MAX_ADDRESSES}, {messages.MAX_ADDRESS_BYTES}; more is passed over"
        ),
        "time for a request to arrive, for an answer to be taken": "10 s",
        "streams at a server: of one peer, of all": "8, 256",
        "requests on one stream": f"{shell.MAX_REQUESTS_PER_STREAM}",
        "requests of one peer": f"{core.REQUESTS_PER_S:.0f} per second, burst {core.REQUEST_BURST:.0f}",
        "writes of one peer": f"{core.WRITES_PER_S:.0f} per second, burst {core.WRITE_BURST:.0f}",
        "records kept: of one sender, of all": (
            f"{records.MAX_RECORDS_PER_SENDER}, {records.MAX_RECORDS}; when full the farthest goes"
        ),
        "age of a record": f"{records.MAX_RECORD_AGE_S // hour} h, or its own expiry if that is earlier",
        "announcements: for one key, of one provider, keys": (
            f"{records.MAX_PROVIDERS_PER_KEY} (newest), {records.MAX_KEYS_PER_PROVIDER}, "
            f"{records.MAX_PROVIDER_KEYS}"
        ),
        "age of an announcement": f"{records.PROVIDER_AGE_S // hour} h",
    }


def test_numbers_of_the_states():
    defaults = lookup.LookupLimits()
    assert defaults == lookup.LookupLimits(parallel=4, width=20, hedge_s=0.3, patience_s=1.0)
    assert f"most {lookup.MAX_CALLS} are asked" in KAD
    assert f"at most {table.MAX_REPLACEMENTS} waiting" in KAD
    assert f"at most {table.SUBNET_LIMIT_PER_BUCKET} members of a bucket" in KAD
    assert f"and {table.SUBNET_LIMIT_PER_TABLE} of a table" in KAD
    assert table.BUCKET_SIZE == 20
    assert table.FAILURES_TO_PRUNE == 2


def test_peer_record_schema():
    block = DISCOVERY.split("peer-record = {")[1].split("}")[0]
    assert set(re.findall(r'"(\w+)":', block)) == set(discovery._SCHEMA)
    for limit in (
        f'"certificate": bytes .size (0..{discovery.MAX_CERTIFICATE_BYTES})',
        f'"addresses": [0*{discovery.MAX_ADDRESSES} tstr .size (0..{discovery.MAX_ADDRESS_CHARACTERS})]',
        f'"roles": [0*{discovery.MAX_ROLES} tstr .size (0..{discovery.MAX_ROLE_CHARACTERS})]',
        f'"name": tstr .size (0..{discovery.MAX_NAME_CHARACTERS})',
        f"at most {discovery.MAX_VALIDITY_S} after issued_at",
    ):
        assert limit in block
    assert f"at most {discovery.MAX_RECORD_BYTES} bytes" in DISCOVERY
    assert f"from {discovery.CLOCK_SKEW_S} s before" in DISCOVERY
