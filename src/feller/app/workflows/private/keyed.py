"""Fingerprints of private data, which tell nobody anything who has not the key."""

import hashlib
import hmac
import os
import pathlib
import secrets
import tempfile

from feller.core.errors import InputError

LENGTH = 32
"""Bytes of a key."""
OPEN = "open-"
"""What a salt begins with where the noise is drawn from a seed that is written down, too."""


def keyed(fingerprint: str, salt: str) -> str:
    """Return a fingerprint that only the owner of a key can make: from it alone no guess about rows can be checked.

    The salt stands before it, so that two runs do not tell whether they saw the same rows. The key lies in the home of
    whoever fits, never in a run folder.

    Raises:
        InputError: If no key can be written, or the one that is there is damaged.
    """
    digest = hmac.new(_key(), f"{salt}/{fingerprint}".encode(), hashlib.sha256).hexdigest()
    return f"{salt}-{digest[:16]}"


def fits(fingerprint: str, before: str) -> bool:
    """Tell whether a fingerprint is the one that was keyed before."""
    return hmac.compare_digest(keyed(fingerprint, before.rpartition("-")[0]), before)


def key_for(purpose: str, salt: str) -> bytes:
    """Return a key of 32 bytes that only the owner can make; of an open salt anybody can, as noise of a seed is.

    Raises:
        InputError: As by `keyed`.
    """
    key = b"" if salt.startswith(OPEN) else _key()
    return hmac.new(key, f"{purpose}/{salt}".encode(), hashlib.sha256).digest()


def key_path() -> pathlib.Path:
    """Return where the key lies."""
    home = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    return pathlib.Path(home) / "feller" / "key"


def _key() -> bytes:
    path = key_path()
    try:
        if not path.is_file():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"a private run needs a key in {path} ({error.strerror or error}); set XDG_DATA_HOME to a folder of yours"
        ) from error
    if len(key) != LENGTH:
        raise InputError(f"{path} is damaged: expected a key of {LENGTH} bytes, got {len(key)}; remove it")
    return key


def _make(path: pathlib.Path) -> None:
    """Write a new key in one move, unless another process is faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # which nobody else may read
        file.write(secrets.token_bytes(LENGTH))
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return
