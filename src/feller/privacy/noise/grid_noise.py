"""Gaussian and discrete noise on a grid, from a cryptographic generator, or seeded for tests."""

import abc
import math
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.optional_dependency import require_package
from feller.privacy.noise import discrete_samplers

KEY = 32
"""Bytes of a key."""
MAX_STREAM_BYTES = 2**37
"""Bytes of one key, after which its counter would come round."""


class Keystream:
    """ChaCha20 of one key: Nir and Langley 2018, RFC 8439."""

    def __init__(self, key: bytes) -> None:
        ciphers = require_package("cryptography.hazmat.primitives.ciphers", "private noise", "tables")
        self._cipher: Any = ciphers.Cipher(ciphers.algorithms.ChaCha20(key, bytes(16)), None).encryptor()
        self.taken = 0
        """Bytes so far."""

    def random_bytes(self, count: int) -> bytes:
        """Return the next bytes."""
        self.taken += count
        if self.taken > MAX_STREAM_BYTES:
            raise UsageError(
                f"one key gives {MAX_STREAM_BYTES:,} random bytes, and no more", remedy="Start another stream"
            )
        return self._cipher.update(bytes(count))


BITS = 53
"""Of a uniform number."""
GRID_BITS = 34
"""Binary digits of a noisy sum below its scale."""
NORMALS_PER_SUM = 4
"""Normal numbers of which each is made."""
PAIRS = 2**12
"""Pairs that are drawn at once, which a processor keeps near."""
RENEW_BYTES = 2**32
"""Bytes after which a secret key is thrown away."""


class Noise(abc.ABC):
    """A source of private random numbers. Implement one method to add one.

    Numbers are drawn on the processor, in float64, and then moved.
    """

    @abc.abstractmethod
    def random_bytes(self, count: int) -> bytes:
        """Return so many new random bytes."""

    def random_words(self, count: int) -> np.ndarray:
        """Return random numbers of 64 bits, [count] in uint64."""
        return np.frombuffer(self.random_bytes(8 * count), dtype=np.uint64)

    def uniform(self, shape: Sequence[int]) -> Float[Tensor, " *d"]:
        """Draw from the middles of 2^53 equal parts of (0, 1)."""
        return _fractions(self.random_words(math.prod(shape))).reshape(tuple(shape))

    def bernoulli(self, p: float, shape: Sequence[int]) -> Bool[Tensor, " *d"]:
        """Flip coins of one chance, exact to 2^-53."""
        heads = (self.random_words(math.prod(shape)) >> np.uint64(64 - BITS)) < np.uint64(p * 2.0**BITS)
        return torch.from_numpy(heads).reshape(tuple(shape))

    def randint(self, high: int, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Draw whole numbers from 0 to `high` - 1, all alike, exactly."""
        return torch.from_numpy(discrete_samplers.uniform_integers(self.random_words, high, math.prod(shape))).reshape(
            tuple(shape)
        )

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Float[Tensor, " *d"]:
        """Draw from N(0, 1): half of a sum of four, whose floats cannot be traced back to the bits.

        To hide a value, use `add_gaussian`, which keeps the floats of the sum from telling the value too.
        Source: Holohan and Braghin 2021, "Secure random sampling in differential privacy", arXiv 2107.10138.
        """
        n = math.prod(shape)
        drawn = torch.empty(n + n % 2, dtype=torch.float64)
        for start in range(0, len(drawn), 2 * PAIRS):
            part = drawn[start : start + 2 * PAIRS]
            pairs = len(part) // 2
            u, v = _fractions(self.random_words(2 * NORMALS_PER_SUM * pairs)).view(2, NORMALS_PER_SUM, pairs)
            far, angle = u.log_().mul_(-2 / NORMALS_PER_SUM).sqrt_(), v.mul_(2 * math.pi)
            torch.sum(angle.cos().mul_(far), 0, out=part[:pairs])
            torch.sum(angle.sin_().mul_(far), 0, out=part[pairs:])
        return drawn[:n].reshape(tuple(shape)).to(device=device, dtype=dtype)

    def add_gaussian(self, values: Float[Tensor, " *d"], scale: float) -> Float[Tensor, " *d"]:
        """Return values in float64 with normal noise of a standard deviation, both on one grid of powers of two.

        Every point of the grid, of about 2^-34 of the scale, can come from every value, so the low digits of a sum tell
        nothing: Mironov 2012, "On significance of the least significant bits for differential privacy". Rounding moves
        the sum of n numbers by at most sqrt(n) / 2 of the grid.
        """
        check_number("scale", scale, ge=0)
        if scale == 0:
            return values.double()
        grid = 2.0 ** (math.floor(math.log2(scale)) - GRID_BITS)
        noise = self.normal(values.shape, device=values.device).mul_(scale / grid).round_()
        return (values.double() / grid).round_().add_(noise).mul_(grid)

    def laplace(self, shape: Sequence[int]) -> Float[Tensor, " *d"]:
        """Draw from the law of Laplace of scale 1; for counts use `discrete_laplace`, which betrays nothing."""
        return (self.uniform(shape) / self.uniform(shape)).log()

    def discrete_laplace(self, scale: int, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Draw whole numbers k with a chance that goes as e^(-|k| / scale), exactly."""
        return torch.from_numpy(discrete_samplers.discrete_laplace(self.random_words, scale, math.prod(shape))).reshape(
            tuple(shape)
        )

    def discrete_gaussian(self, sigma: float, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Draw whole numbers k with a chance that goes as e^(-k^2 / (2 sigma^2)), exactly.

        Source: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", arXiv 2004.00010.
        """
        return torch.from_numpy(
            discrete_samplers.discrete_gaussian(self.random_words, sigma, math.prod(shape))
        ).reshape(tuple(shape))


def _fractions(words: np.ndarray) -> Tensor:
    fractions = (words >> np.uint64(64 - BITS)).astype(np.float64)
    return torch.from_numpy(fractions).add_(0.5).mul_(2.0**-BITS)


class SecureNoise(Noise):
    """Noise from the operating system's key, which is never told; a copy, a fork or a new run draws other numbers."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._stream, self._process = Keystream(os.urandom(KEY)), os.getpid()

    def random_bytes(self, count: int) -> bytes:
        if self._process != os.getpid() or self._stream.taken + count > RENEW_BYTES:
            self._renew()
        return self._stream.random_bytes(count)

    def __copy__(self) -> "SecureNoise":
        return SecureNoise()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SecureNoise":
        return SecureNoise()

    def __reduce__(self) -> tuple[type["SecureNoise"], tuple[()]]:
        return SecureNoise, ()


class SharedKeyNoise(Noise):
    """The same numbers in all processes that were given one secret key, which nobody else knows.

    After so many bytes the stream's own next bytes are the key of another one, in all processes at once. A second
    source needs another name.
    """

    def __init__(self, key: bytes, *name: object) -> None:
        if len(key) != KEY:
            raise UsageError(f"a key of {KEY} bytes", len(key), "Take it from the system")
        address = "/".join(map(str, name)).encode()
        self._stream = Keystream(blake2b(address, digest_size=KEY, key=key, person=b"feller agreed").digest())

    def random_bytes(self, count: int) -> bytes:
        if self._stream.taken + count > RENEW_BYTES:
            self._stream = Keystream(self._stream.random_bytes(KEY))
        return self._stream.random_bytes(count)


class SeededNoise(Noise):
    """The same numbers for the same seed and name, for tests: who knows the seed can take the noise away.

    A second source needs another name, such as that of a resumed run.
    """

    def __init__(self, seed: int, *name: object) -> None:
        address = "/".join(map(str, (seed, *name))).encode()
        self._stream = Keystream(blake2b(address, digest_size=KEY, person=b"feller noise").digest())

    def random_bytes(self, count: int) -> bytes:
        return self._stream.random_bytes(count)


def make_noise(seed: int | None, *name: object, key: bytes | None = None) -> Noise:
    """Return secret noise, or, where a seed is given, noise that can be repeated; a name must not come twice.

    With a key, which several processes have agreed upon, secret noise is the same in all of them.
    """
    if seed is not None:
        return SeededNoise(seed, *name)
    return SecureNoise() if key is None else SharedKeyNoise(key, *name)
