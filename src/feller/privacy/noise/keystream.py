"""Streams of bytes that nobody can tell from coin flips who does not know the key."""

from typing import Any

from feller.core.errors import UsageError

KEY = 32
"""Bytes of a key."""
MOST = 2**37
"""Bytes of one key, after which its counter would come round."""


class Keystream:
    """ChaCha20 of one key: Nir and Langley 2018, RFC 8439."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
        except ImportError as error:
            raise UsageError("private noise needs cryptography: pip install 'feller[tables]'") from error
        self._cipher: Any = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()
        self.taken = 0
        """Bytes so far."""

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.taken += count
        if self.taken > MOST:
            raise UsageError(f"one key gives {MOST:,} random bytes, and no more; start another stream")
        return self._cipher.update(bytes(count))
