"""Private hold-out split by independent coins, and keyed fingerprints."""

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
"""Bytes of a key."""
OPEN_SALT_PREFIX = "open-"
"""What a salt begins with where the noise is drawn from a seed that is written down, too."""


def keyed_fingerprint(fingerprint: str, salt: str) -> str:
    """Return a fingerprint that only the owner of a key can make: from it alone no guess about rows can be checked.

    The salt stands before it, so that two runs do not tell whether they saw the same rows. The key lies in the home of
    whoever fits, never in a run folder.

    Raises:
        InputError: If no key can be written, or the one that is there is damaged.
    """
    digest = hmac.new(_key(), f"{salt}/{fingerprint}".encode(), hashlib.sha256).hexdigest()
    return f"{salt}-{digest[:16]}"


def unordered_print(data: Dataset) -> str:
    """Hash rows whatever their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(row).digest() for row in sorted(contents(data)))).hexdigest()[:16]


def matches_keyed(fingerprint: str, recorded: str) -> bool:
    """Tell whether a fingerprint is the one that was keyed before."""
    return hmac.compare_digest(keyed_fingerprint(fingerprint, recorded.rpartition("-")[0]), recorded)


def derive_key(purpose: str, salt: str) -> bytes:
    """Return a key of 32 bytes that only the owner can make; of an open salt anybody can, as noise of a seed is.

    Raises:
        InputError: As by `keyed_fingerprint`.
    """
    key = b"" if salt.startswith(OPEN_SALT_PREFIX) else _key()
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
            f"a private run needs a key in {path} ({error.strerror or error})",
            remedy="Set XDG_DATA_HOME to a folder of yours",
        ) from error
    if len(key) != KEY_BYTES:
        raise InputError(
            f"is damaged: expected a key of {KEY_BYTES} bytes", found=len(key), remedy="Remove it", file=path
        )
    return key


def _make(path: pathlib.Path) -> None:
    """Write a new key in one move, unless another process is faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # which nobody else may read
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return


PURPOSE = "kept back"


def holdout_mask(data: Dataset, fraction: float, salt: str) -> Bool[Tensor, " n"]:
    """Tell which rows are kept back: a row more or less moves no other.

    The coin of a row is a keyed hash of what it holds, and of how many before it hold the same. So the rows of two
    tables that differ by one row fall on the same sides but for that one, whatever their order. Below ten rows none is
    kept back.

    Args:
        data: Rows, whose number is public.
        fraction: Chance of each to be kept back.
        salt: Of this run.

    Raises:
        UsageError: If the share is not in [0, 1).
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
    """Return the bytes of each row, with its conditions."""
    wanted = () if data.target is None else (data.targets(data.target),)
    parts = [*leaves(data.values), *(data.given[name] for name in sorted(data.given)), *wanted]
    flat = [np.ascontiguousarray(part.numpy()).reshape(num_examples(part), -1).view(np.uint8) for part in parts]
    return [row.tobytes() for row in np.concatenate(flat, 1)]
