"""Held-out split of private rows by independent keyed hashes, and keyed fingerprints of data."""

import hashlib
import hmac
import os
import pathlib
import secrets
import tempfile
from collections import Counter

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.pytree import leaves, num_examples
from feller.data.batches import MIN_SPLIT_EXAMPLES
from feller.data.modality import Dataset

KEY_BYTES = 32
"""Key length in bytes."""
OPEN_SALT_PREFIX = "open-"
"""Prefix of the salt of runs whose noise comes from a recorded seed."""


def keyed_fingerprint(fingerprint: str, salt: str) -> str:
    """Return a keyed hash of a fingerprint: without the key, it cannot be used to check guesses about rows.

    The salt precedes the hash, so that fingerprints of two runs cannot be compared. The key is stored in the user's
    home, never in a run folder.

    Raises:
        InputError: If no key can be written, or the stored one is damaged.
    """
    digest = hmac.new(_key(), f"{salt}/{fingerprint}".encode(), hashlib.sha256).hexdigest()
    return f"{salt}-{digest[:16]}"


def unordered_print(data: Dataset) -> str:
    """Return a fingerprint of the rows that does not depend on their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(row).digest() for row in sorted(contents(data)))).hexdigest()[:16]


def matches_keyed(fingerprint: str, recorded: str) -> bool:
    """Return True if a fingerprint matches a recorded keyed fingerprint."""
    return hmac.compare_digest(keyed_fingerprint(fingerprint, recorded.rpartition("-")[0]), recorded)


def derive_key(purpose: str, salt: str) -> bytes:
    """Derive a 32-byte secret key for a purpose; for an open salt the key is not secret.

    Raises:
        InputError: As in `keyed_fingerprint`.
    """
    key = b"" if salt.startswith(OPEN_SALT_PREFIX) else _key()
    return hmac.new(key, f"{purpose}/{salt}".encode(), hashlib.sha256).digest()


def key_path() -> pathlib.Path:
    """Return the path of the key file."""
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
            f"cannot read or write the key of private runs, {path} ({error.strerror or error})",
            remedy="Set XDG_DATA_HOME to a writable folder",
        ) from error
    if len(key) != KEY_BYTES:
        raise InputError(f"a key of {KEY_BYTES} bytes", f"{len(key)} bytes", "Remove the damaged file", file=path)
    return key


def _make(path: pathlib.Path) -> None:
    """Write a new key file atomically, unless another process has written one first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # readable by the owner only
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return


PURPOSE = "kept back"


def holdout_mask(data: Dataset, fraction: float, salt: str) -> Bool[Tensor, " n"]:
    """Return the mask of held-out rows; adding or removing a row does not change the split of any other row.

    A keyed hash of a row's content, and of its occurrence number among equal rows, decides whether the row is held out.
    So two tables that differ in one row are split alike except for that row, in any order. With fewer than ten rows,
    none is held out.

    Args:
        data: Rows; their number is public.
        fraction: Probability of each row to be held out.
        salt: Salt of the run.

    Raises:
        UsageError: If the fraction is not in [0, 1).
    """
    check_number("share", fraction, ge=0, lt=1)
    n = len(data)
    if n < MIN_SPLIT_EXAMPLES or fraction == 0:
        return torch.zeros(n, dtype=torch.bool)
    key, occurrences, chances = derive_key(PURPOSE, salt), Counter[bytes](), []
    for row in contents(data):
        held = hashlib.blake2b(row, key=key, digest_size=16).digest()
        coin = hashlib.blake2b(held + occurrences[held].to_bytes(8), key=key, digest_size=8).digest()
        occurrences[held] += 1
        chances.append(int.from_bytes(coin) / 2**64)
    return torch.tensor(chances, dtype=torch.float64) < fraction


def contents(data: Dataset) -> list[bytes]:
    """Return the content of each row as bytes, conditions included."""
    wanted = () if data.target is None else (data.targets(data.target),)
    parts = [*leaves(data.values), *(data.given[name] for name in sorted(data.given)), *wanted]
    flat = [np.ascontiguousarray(part.numpy()).reshape(num_examples(part), -1).view(np.uint8) for part in parts]
    return [row.tobytes() for row in np.concatenate(flat, 1)]
