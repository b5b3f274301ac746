"""Errors of this package: one root, one class for each thing a caller may have to do differently."""


class CryptoError(Exception):
    """Root of all errors that this package raises on purpose."""


class FormatError(CryptoError):
    """The bytes do not have the layout that the specification gives."""


class MalformedError(FormatError):
    """The bytes are not the strict canonical CBOR subset, or a body breaks its schema."""


class ParameterError(CryptoError):
    """A parameter lies outside the range that is accepted; nothing was computed."""


class AuthenticationError(CryptoError):
    """Wrong key or context, or altered bytes. Deliberately does not say which."""


class IdMismatchError(CryptoError):
    """Bytes do not have the identifier under which they were asked for."""


class SignatureError(CryptoError):
    """A signature does not hold for these bytes, this key and this network."""


class UnlockError(CryptoError):
    """A key slot did not open. Deliberately does not say which part was wrong."""

    def __init__(self, message: str = "cannot unlock") -> None:
        super().__init__(message)
