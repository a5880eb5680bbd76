"""Data fingerprints: hashes of raw file contents.

Computed values are hashed only if there is no alternative, because the last bits of transcendental functions and sums
depend on the CPU.
"""

import hashlib

import numpy as np
from torch import Tensor

from feller.core.migrations import repr_before
from feller.core.pytree import Cond, State, leaves
from feller.data.loading.raw import RawExamples, Waveform


def sha256_of(*parts: object) -> str:
    """Return the SHA-256 hash of a sequence of strings, arrays, tensors and waveforms."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.samples if isinstance(part, Waveform) else part.numpy() if isinstance(part, Tensor) else part
        is_array = isinstance(content, np.ndarray)
        digest.update(np.ascontiguousarray(content).tobytes() if is_array else repr_before(content).encode())
    return digest.hexdigest()


def fingerprint_of(raw: RawExamples) -> str:
    """Hash raw examples: the file hashes if known, otherwise the values; labels and other metadata are included."""
    extras = [getattr(raw, name, ()) for name in ("texts", "user_pronunciations", "settings")]
    if not raw.hashes:
        extras.append(getattr(raw, "alignments", ()))  # covered by the file hashes otherwise
    values = raw.hashes or (raw.values if raw.values.dtype == object else [raw.values])
    return sha256_of(*values, raw.labels, raw.classes, *extras)


def fingerprint_of_values(values: State, given: Cond) -> str:
    """Hash values and conditions. Use it only for values that are bit-identical on every CPU."""
    return sha256_of(*leaves(values), *(given[name] for name in sorted(given)))
