"""Fingerprints of what was read, for data whose values are computed from it.

The last bits of sines, logarithms and sums of products depend on the processor, so a hash of computed values would be
another on another machine.
"""

import hashlib

import numpy as np
from torch import Tensor

from feller.core.migrations import repr_before
from feller.core.pytree import Cond, State, leaves
from feller.data.loading.raw import RawExamples, Waveform


def sha256_of(*parts: object) -> str:
    """Hash words, numbers and sounds, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.samples if isinstance(part, Waveform) else part.numpy() if isinstance(part, Tensor) else part
        is_numbers = isinstance(content, np.ndarray)
        digest.update(np.ascontiguousarray(content).tobytes() if is_numbers else repr_before(content).encode())
    return digest.hexdigest()


def fingerprint_of(raw: RawExamples) -> str:
    """Hash what was found: files where their hashes are known, else numbers, and what belongs to them."""
    extras = [getattr(raw, name, ()) for name in ("texts", "user_pronunciations", "settings")]
    if not raw.hashes:
        extras.append(getattr(raw, "alignments", ()))  # those that were made of files are computed
    values = raw.hashes or (raw.values if raw.values.dtype == object else [raw.values])
    return sha256_of(*values, raw.labels, raw.classes, *extras)


def fingerprint_of_values(values: State, given: Cond) -> str:
    """Hash values that are the same on every processor."""
    return sha256_of(*leaves(values), *(given[name] for name in sorted(given)))
