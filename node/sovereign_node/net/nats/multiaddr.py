"""The multiaddr protocols `/nats/HOST:PORT` and `/nats-tls/HOST:PORT`.

py-multiaddr locks its registry and offers no public way to add to it; a copy would not be seen by the parsers of
libp2p. The codes lie in the range that multicodec reserves for private use (0x300000 to 0x3FFFFF).
"""

from typing import Any, Final

from multiaddr import codecs, protocols

from sovereign_protocols.relay.endpoint import MULTIADDR_PLAIN, MULTIADDR_TLS, parse_authority

CODE_PLAIN: Final = 0x300102
CODE_TLS: Final = 0x300103
_CODEC_NAME: Final = "sovereign_authority"


class AuthorityCodec(codecs.CodecBase):  # type: ignore[misc]
    """HOST:PORT as UTF-8 text with a length before it."""

    SIZE = codecs.LENGTH_PREFIXED_VAR_SIZE
    IS_PATH = False

    def to_bytes(self, proto: Any, string: str) -> bytes:
        """Encode; raises `ValueError` unless it is HOST:PORT in its one normal form."""
        if parse_authority(string).authority != string:
            raise ValueError("HOST:PORT is not in its normal form")
        return string.encode()

    def to_string(self, proto: Any, buf: bytes) -> str:
        """Decode; raises `ValueError` unless it is HOST:PORT in its one normal form."""
        text = buf.decode()
        self.to_bytes(proto, text)
        return text


def register() -> None:
    """Teach py-multiaddr our two protocols; harmless when called again."""
    codecs.CODEC_CACHE[_CODEC_NAME] = AuthorityCodec()
    registry = protocols.REGISTRY
    for code, name in ((CODE_PLAIN, MULTIADDR_PLAIN), (CODE_TLS, MULTIADDR_TLS)):
        if name not in registry._names_to_protocols:
            registry._locked = False
            try:
                registry.add(protocols.Protocol(code, name, _CODEC_NAME))
            finally:
                registry.lock()
