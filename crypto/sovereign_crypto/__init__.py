"""Keys, envelopes, statements: bytes in, bytes out.

Nothing here reads a clock, touches a file or the network, or logs; randomness comes from
``os.urandom`` alone. The nouns:

*envelope*
    sealed bytes (``SVE1``): one purpose, one fresh key per message (:mod:`~sovereign_crypto.envelope`).
*statement*
    signed bytes (``SVS1``): a type, a canonical CBOR body, a signer (:mod:`~sovereign_crypto.statement`).
*wrap*
    a 32-byte secret encrypted to somebody's X25519 key (``SVW1``, :mod:`~sovereign_crypto.hpke`).
*key slot*
    the identity root seed locked by a passphrase or another secret (``SVK1``,
    :mod:`~sovereign_crypto.keyslot`).
*identity*, *identity log*, *device certificate*
    who a person is and which devices speak for them (:mod:`~sovereign_crypto.identity`,
    :mod:`~sovereign_crypto.certificate`).
*recovery kit*
    32 bytes on paper that bring an identity back (:mod:`~sovereign_crypto.recovery`).
*project keys*
    everything a member of a project needs to read and write it (:mod:`~sovereign_crypto.project`).

Byte layouts and CDDL are in ``crypto/specs``; frozen test vectors in ``crypto/vectors``.
"""
