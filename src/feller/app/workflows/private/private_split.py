"""Selection of held-out private rows by independent keyed hashes, and keyed fingerprints of data."""

import hashlib
import hmac
import os
import pathlib
import secrets
import tempfile
from collections import Counter

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.pytree import leaves, num_examples
from feller.data.batches import MIN_SPLIT_EXAMPLES
from feller.data.modality import Dataset

KEY_BYTES = 32
"""Length of the secret key in bytes."""
OPEN_SALT_PREFIX = "open-"
"""Prefix that marks the salt of a run whose noise comes from a recorded seed: such a run needs no secret key."""


def keyed_fingerprint(fingerprint: str, salt: str) -> str:
    """Return a keyed hash of a fingerprint; without the key, nobody can use the hash to check guesses about rows.

    Each run has its own salt, so that the hashes of two runs cannot be compared; the result is the salt followed by the
    hash. The key is stored in the user's home folder, never in a run folder.

    Raises:
        InputError: If no key can be written, or the stored key is damaged.
    """
    digest = hmac.new(_key(), f"{salt}/{fingerprint}".encode(), hashlib.sha256).hexdigest()
    return f"{salt}-{digest[:16]}"


def unordered_print(data: Dataset) -> str:
    """Return a fingerprint of the rows that does not depend on their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(row).digest() for row in sorted(contents(data)))).hexdigest()[:16]


def matches_keyed(fingerprint: str, recorded: str) -> bool:
    """Return True if hashing a fingerprint with the secret key gives the recorded keyed fingerprint."""
    return hmac.compare_digest(keyed_fingerprint(fingerprint, recorded.rpartition("-")[0]), recorded)


def derive_key(purpose: str, salt: str) -> bytes:
    """Derive a 32-byte secret key for a purpose; if the salt starts with `OPEN_SALT_PREFIX`, the key is not secret.

    Raises:
        InputError: As in `keyed_fingerprint`.
    """
    key = b"" if salt.startswith(OPEN_SALT_PREFIX) else _key()
    return hmac.new(key, f"{purpose}/{salt}".encode(), hashlib.sha256).digest()


def key_path() -> pathlib.Path:
    """Return the path of the user's secret key, by which held-out rows are selected and data are hashed."""
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
    """Write the key file `path` in one step; keep the file that another process has written in the meantime."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # readable by the owner only
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return


PURPOSE, GROUPS_PURPOSE = "kept back", "groups"


def holdout_mask(data: Dataset, fraction: float, salt: str) -> Bool[Tensor, " n"]:
    """Return a mask that is True for held-out rows.

    Adding or removing a row does not move any other row between the parts.

    A keyed hash of a row's content, and of its occurrence number among equal rows, decides whether the row is held out.
    Two tables that differ in one row are therefore split equally except for that row, whatever the order of the rows.
    With fewer than ten rows, no row is held out.

    Raises:
        UsageError: If the fraction is not in [0, 1).
    """
    check_number("fraction", fraction, ge=0, lt=1)
    n = len(data)
    if n < MIN_SPLIT_EXAMPLES or fraction == 0:
        return torch.zeros(n, dtype=torch.bool)
    return _row_uniforms(data, PURPOSE, salt) < fraction


def row_groups(data: Dataset, count: int, salt: str) -> Int[Tensor, " n"]:
    """Return the group of each row, from 0 to `count` - 1.

    Adding or removing a row does not move any other row to another group; the order of the rows does not matter, so
    that a resumed run has the same groups.
    """
    check_number("count", count, ge=1)
    if not len(data):
        return torch.zeros(0, dtype=torch.int64)
    return (_row_uniforms(data, GROUPS_PURPOSE, salt) * count).long().clamp(max=count - 1)


def _row_uniforms(data: Dataset, purpose: str, salt: str) -> Float64[Tensor, " n"]:
    """Return a number in [0, 1] of each row: a keyed hash of its content and its occurrence number among equal rows."""
    key, occurrences, uniforms = derive_key(purpose, salt), Counter[bytes](), []
    for row in contents(data):
        digest = hashlib.blake2b(row, key=key, digest_size=16).digest()
        coin_bytes = hashlib.blake2b(digest + occurrences[digest].to_bytes(8), key=key, digest_size=8).digest()
        occurrences[digest] += 1
        uniforms.append(int.from_bytes(coin_bytes) / 2**64)
    return torch.tensor(uniforms, dtype=torch.float64)


def contents(data: Dataset) -> list[bytes]:
    """Return the content of each row, including its conditions, as bytes."""
    targets = () if data.target is None else (data.targets(data.target),)
    if not len(data):
        return []
    tensors = [*leaves(data.values), *(data.given[name] for name in sorted(data.given)), *targets]
    flat = [np.ascontiguousarray(tensor.numpy()).reshape(num_examples(tensor), -1).view(np.uint8) for tensor in tensors]
    return [row.tobytes() for row in np.concatenate(flat, 1)]
