"""Turn the errors of every package into sentences with a next step, once, at the boundary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sovereign_crypto.errors import CryptoError
from sovereign_node.chunkstore import ChunkStoreError, StoreFullError, StoreInUseError
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.errors import AddressError, DialError, ListenError, NetError
from sovereign_node.store.errors import StateCorruptError, StateError, StateFullError, StateTooNewError
from sovereign_protocols.errors import ConnectionLostError, ProtocolError, RemoteError


def translate_error(error: BaseException) -> NodeError | None:
    """Return the sentence for a known error, also for one that nurseries have put into groups; None for a bug."""
    for leaf in _leaves(error):
        if isinstance(leaf, NodeError):
            return leaf
        for kind, explain in _EXPLANATIONS:
            if isinstance(leaf, kind):
                return explain(leaf)
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise the sentence for a known error of the block."""
    try:
        yield
    except Exception as error:
        explained = translate_error(error)
        if explained is None:
            raise
        raise explained from error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _full(_error: BaseException) -> NodeError:
    return NodeError(
        "disk_full", "the disk is full, or its reserve would be used", "make space", ExitCode.STORAGE_FULL
    )


def _too_new(error: BaseException) -> NodeError:
    return NodeError("state_too_new", str(error), "install the newest version of sovereign", ExitCode.STATE_TOO_NEW)


def _corrupt(error: BaseException) -> NodeError:
    return NodeError(
        "state_damaged",
        str(error).splitlines()[0],
        "put a copy of it back, or set the data directory aside and join again with the recovery kit",
        ExitCode.DAMAGE_FOUND,
    )


def _state(error: BaseException) -> NodeError:
    return NodeError("state_error", str(error), "see the output of `sovereign up`")


def _in_use(error: BaseException) -> NodeError:
    return NodeError("in_use", str(error), "stop the other node, or choose another --data-dir", ExitCode.IN_USE)


def _storage(error: BaseException) -> NodeError:
    return NodeError("storage_error", str(error), "check the disk")


def _listen(error: BaseException) -> NodeError:
    return NodeError("cannot_listen", str(error), "choose another address with --listen, e.g. /ip4/0.0.0.0/tcp/0")


def _address(error: BaseException) -> NodeError:
    hint = "an address looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…"
    return NodeError("bad_address", str(error), hint, ExitCode.USAGE)


def _network(error: BaseException) -> NodeError:
    return NodeError("unreachable", str(error), "the peer may be off line; try again later", ExitCode.UNREACHABLE)


def _remote(error: BaseException) -> NodeError:
    assert isinstance(error, RemoteError)
    code = error.code.value
    if code in ("quota", "full"):
        hint = "open a larger contract, or add a provider"
        return NodeError(
            f"provider_{code}", "the provider has no space left for this contract", hint, ExitCode.STORAGE_FULL
        )
    if code == "clock_skew":
        return NodeError("clock_skew", "the clocks of this device and of the provider differ", "set the clock")
    return NodeError(f"provider_{code}", f"the provider refused: {code}", "see `sovereign contract list`")


def _protocol(error: BaseException) -> NodeError:
    return NodeError(
        "protocol_error", f"the other side broke the protocol ({error})", "it may be of another version"
    )


def _crypto(error: BaseException) -> NodeError:
    return NodeError("damaged", f"data can't be opened: {error}", "run `sovereign verify`", ExitCode.DAMAGE_FOUND)


_EXPLANATIONS = (
    (StateTooNewError, _too_new),
    (StateFullError, _full),
    (StateCorruptError, _corrupt),
    (StateError, _state),
    (StoreFullError, _full),
    (StoreInUseError, _in_use),
    (ChunkStoreError, _storage),
    (ListenError, _listen),
    (AddressError, _address),
    (DialError, _network),
    (NetError, _network),
    (RemoteError, _remote),
    (ConnectionLostError, _network),
    (ProtocolError, _protocol),
    (CryptoError, _crypto),
)
