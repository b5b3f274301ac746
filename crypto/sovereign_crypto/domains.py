"""The one registry of domain-separation strings.

A string used in two places would let one key or signature serve two purposes, so every string is
written here once, and a test forbids the common prefix in any other source file. Each string is
followed by one zero byte when it is used; with it, no entry can be a prefix of another.

Source: ``crypto/specs/keys.md``, section "Domain strings".
"""

from enum import StrEnum, unique


@unique
class Domain(StrEnum):
    """Every domain string of the project; use ``.prefix`` in front of the bytes it separates."""

    ENVELOPE = "svrn/v1/envelope"
    KEYSLOT = "svrn/v1/keyslot"
    STATEMENT = "svrn/v1/stmt"
    WRAP = "svrn/v1/hpke/wrap"
    WRAP_TAG = "svrn/v1/hpke/tag"

    IDENTITY = "svrn/v1/id"
    IDENTITY_SIGN = "svrn/v1/id/sign"
    IDENTITY_SEAL = "svrn/v1/id/seal"
    IDENTITY_ROTATE = "svrn/v1/id/rotate"

    RECOVERY_CHECK = "svrn/v1/recovery/check"
    RECOVERY_SIGN = "svrn/v1/recovery/sign"
    RECOVERY_ENCRYPT = "svrn/v1/recovery/encrypt"
    RECOVERY_LOCATOR = "svrn/v1/recovery/locator"
    RECOVERY_RENDEZVOUS = "svrn/v1/recovery/rendezvous"
    RECOVERY_WRAP = "svrn/v1/recovery/wrap"

    PROJECT_CHUNK = "svrn/v1/project/chunk"
    PROJECT_INDEX = "svrn/v1/project/index"
    PROJECT_HEAD = "svrn/v1/project/head"
    PROJECT_LOG = "svrn/v1/project/log"
    PROJECT_DEDUP = "svrn/v1/project/dedup"
    PROJECT_DISCOVERY = "svrn/v1/project/discovery"
    PROJECT_LOCATOR = "svrn/v1/project/locator"

    DEVICE_SEAL = "svrn/v1/device/seal"
    HEAD = "svrn/v1/head"
    PROVISION = "svrn/v1/provision"
    SUBJECT = "svrn/v1/subject"
    AUDIT = "svrn/v1/audit"
    REPLICA = "svrn/v1/replica"
    RENDEZVOUS = "svrn/v1/rendezvous"
    DHT_DEVICE = "svrn/v1/dht/device"
    DHT_OFFER = "svrn/v1/dht/offer"

    @property
    def prefix(self) -> bytes:
        """The ASCII bytes of the string and one zero byte."""
        return self.value.encode("ascii") + b"\0"
