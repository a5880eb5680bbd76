"""Fingerprints of what was read, for data whose values are computed from it.

The last bits of sines, logarithms and sums of products depend on the processor, so a hash of computed values would be
another on another machine.
"""

import hashlib

import numpy as np
from torch import Tensor

from feller.core.migrations import repr_before
from feller.core.pytree import Cond, State, leaves
from feller.data.loading.raw import Found, Sound


def hashed(*parts: object) -> str:
    """Hash words, numbers and sounds, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.samples if isinstance(part, Sound) else part.numpy() if isinstance(part, Tensor) else part
        is_numbers = isinstance(content, np.ndarray)
        digest.update(np.ascontiguousarray(content).tobytes() if is_numbers else repr_before(content).encode())
    return digest.hexdigest()


def print_of(found: Found) -> str:
    """Hash what was found: files where their hashes are known, else numbers, and what belongs to them."""
    beside = [getattr(found, name, ()) for name in ("texts", "own", "settings")]
    if not found.hashes:
        beside.append(getattr(found, "alignments", ()))  # those that were made of files are computed
    values = found.hashes or (found.values if found.values.dtype == object else [found.values])
    return hashed(*values, found.labels, found.classes, *beside)


def print_of_values(values: State, given: Cond) -> str:
    """Hash values that are the same on every processor."""
    return hashed(*leaves(values), *(given[name] for name in sorted(given)))
