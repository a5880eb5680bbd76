"""Data fingerprints: hashes of raw file contents.

Computed values are not hashed where possible: the last bits of transcendental functions and sums depend on the CPU.
"""

import hashlib

import numpy as np
from torch import Tensor

from feller.core.migrations import repr_before
from feller.core.pytree import Cond, State, leaves
from feller.data.loading.raw import RawExamples, Waveform


def sha256_of(*parts: object) -> str:
    """Return the SHA-256 hash of strings, arrays, tensors and waveforms, in order."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.samples if isinstance(part, Waveform) else part.numpy() if isinstance(part, Tensor) else part
        is_numbers = isinstance(content, np.ndarray)
        digest.update(np.ascontiguousarray(content).tobytes() if is_numbers else repr_before(content).encode())
    return digest.hexdigest()


def fingerprint_of(raw: RawExamples) -> str:
    """Hash raw examples: file hashes if known, otherwise values, with labels and other metadata."""
    extras = [getattr(raw, name, ()) for name in ("texts", "user_pronunciations", "settings")]
    if not raw.hashes:
        extras.append(getattr(raw, "alignments", ()))  # covered by the file hashes otherwise
    values = raw.hashes or (raw.values if raw.values.dtype == object else [raw.values])
    return sha256_of(*values, raw.labels, raw.classes, *extras)


def fingerprint_of_values(values: State, given: Cond) -> str:
    """Hash values and conditions; only for values that are bit-identical on every CPU."""
    return sha256_of(*leaves(values), *(given[name] for name in sorted(given)))
