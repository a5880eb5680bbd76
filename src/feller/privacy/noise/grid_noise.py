"""Noise for differential privacy, secret or seeded: Gaussian on a grid, discrete Gaussian, and Laplace."""

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
"""Key length in bytes."""
MAX_STREAM_BYTES = 2**37
"""Maximum length of the keystream of one key, in bytes; beyond this length, the block counter would wrap."""


class Keystream:
    """ChaCha20 keystream of one key: Nir and Langley 2018, RFC 8439."""

    def __init__(self, key: bytes) -> None:
        ciphers = require_package("cryptography.hazmat.primitives.ciphers", "private noise", "tables")
        self._cipher: Any = ciphers.Cipher(ciphers.algorithms.ChaCha20(key, bytes(16)), None).encryptor()
        self.taken = 0
        """Bytes drawn so far."""

    def random_bytes(self, count: int) -> bytes:
        """Return the next bytes of the keystream."""
        self.taken += count
        if self.taken > MAX_STREAM_BYTES:
            raise UsageError(
                f"the keystream is used up after {MAX_STREAM_BYTES:,} bytes", remedy="Start a keystream with a new key"
            )
        return self._cipher.update(bytes(count))


BITS = 53
"""Number of random bits of a uniform number."""
GRID_BITS = 34
"""Resolution of the Gaussian grid in bits: the grid step is about 2^-34 of the noise's standard deviation."""
NORMALS_PER_SUM = 4
"""Number of Box-Muller normals summed per sample, which prevents the floating-point attack of Holohan and Braghin."""
PAIRS = 2**12
"""Number of pairs of samples drawn per block; a block fits into the CPU cache."""
RENEW_BYTES = 2**32
"""Number of bytes after which a secret key is replaced."""


class Noise(abc.ABC):
    """Source of random numbers for differential privacy. Subclasses implement `random_bytes`.

    Numbers are drawn on the CPU in float64, then moved to the device.
    """

    @abc.abstractmethod
    def random_bytes(self, count: int) -> bytes:
        """Return `count` new random bytes."""

    def random_words(self, count: int) -> np.ndarray:
        """Return random 64-bit words, [count] in uint64."""
        return np.frombuffer(self.random_bytes(8 * count), dtype=np.uint64)

    def uniform(self, shape: Sequence[int]) -> Float[Tensor, " *d"]:
        """Sample uniformly from the midpoints of 2^53 equal intervals of (0, 1)."""
        return _fractions(self.random_words(math.prod(shape))).reshape(tuple(shape))

    def bernoulli(self, p: float, shape: Sequence[int]) -> Bool[Tensor, " *d"]:
        """Sample booleans that are True with probability p, exact to 2^-53."""
        heads = (self.random_words(math.prod(shape)) >> np.uint64(64 - BITS)) < np.uint64(p * 2.0**BITS)
        return torch.from_numpy(heads).reshape(tuple(shape))

    def randint(self, high: int, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Sample integers uniformly from 0 to `high` - 1, exactly."""
        return torch.from_numpy(discrete_samplers.uniform_integers(self.random_words, high, math.prod(shape))).reshape(
            tuple(shape)
        )

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Float[Tensor, " *d"]:
        """Sample from N(0, 1): half the sum of four normals, so that the float does not reveal the random bits.

        To protect a value, use `add_gaussian`: plain float addition leaks the value through its low-order bits.
        Source: Holohan and Braghin 2021, "Secure random sampling in differential privacy", arXiv 2107.10138.
        """
        n = math.prod(shape)
        samples = torch.empty(n + n % 2, dtype=torch.float64)
        for start in range(0, len(samples), 2 * PAIRS):
            block = samples[start : start + 2 * PAIRS]
            num_pairs = len(block) // 2
            u, v = _fractions(self.random_words(2 * NORMALS_PER_SUM * num_pairs)).view(2, NORMALS_PER_SUM, num_pairs)
            radius, angle = u.log_().mul_(-2 / NORMALS_PER_SUM).sqrt_(), v.mul_(2 * math.pi)
            torch.sum(angle.cos().mul_(radius), 0, out=block[:num_pairs])
            torch.sum(angle.sin_().mul_(radius), 0, out=block[num_pairs:])
        return samples[:n].reshape(tuple(shape)).to(device=device, dtype=dtype)

    def add_gaussian(self, values: Float[Tensor, " *d"], scale: float) -> Float[Tensor, " *d"]:
        """Return the values plus Gaussian noise of standard deviation `scale`, both rounded to a grid.

        The result is float64. The grid step is a power of two, about 2^-34 times `scale`. Each grid point is a possible
        output of each value, so low-order bits reveal nothing: Mironov 2012, "On significance of the least significant
        bits for differential privacy". Rounding changes the L2 sensitivity of n values by at most sqrt(n) / 2 grid
        steps.
        """
        check_number("scale", scale, ge=0)
        if scale == 0:
            return values.double()
        grid_step = 2.0 ** (math.floor(math.log2(scale)) - GRID_BITS)
        noise = self.normal(values.shape, device=values.device).mul_(scale / grid_step).round_()
        return (values.double() / grid_step).round_().add_(noise).mul_(grid_step)

    def laplace(self, shape: Sequence[int]) -> Float[Tensor, " *d"]:
        """Sample from the Laplace distribution of scale 1; for counts use `discrete_laplace`, which is exact."""
        return (self.uniform(shape) / self.uniform(shape)).log()

    def discrete_laplace(self, scale: int, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Sample integers k with probability proportional to e^(-|k| / scale), exactly."""
        return torch.from_numpy(discrete_samplers.discrete_laplace(self.random_words, scale, math.prod(shape))).reshape(
            tuple(shape)
        )

    def discrete_gaussian(self, sigma: float, shape: Sequence[int]) -> Int[Tensor, " *d"]:
        """Sample integers k with probability proportional to e^(-k^2 / (2 sigma^2)), exactly.

        Source: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", arXiv 2004.00010.
        """
        return torch.from_numpy(
            discrete_samplers.discrete_gaussian(self.random_words, sigma, math.prod(shape))
        ).reshape(tuple(shape))


def _fractions(words: np.ndarray) -> Tensor:
    fractions = (words >> np.uint64(64 - BITS)).astype(np.float64)
    return torch.from_numpy(fractions).add_(0.5).mul_(2.0**-BITS)


class SecureNoise(Noise):
    """Secret noise, keyed by the operating system; a copy, a forked process or a new run draws different numbers."""

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
    """Secret noise that is identical in all processes that hold the same key, for distributed training.

    After `RENEW_BYTES` bytes, the next bytes of the stream become the new key, in all processes at the same position.
    Use a different name for each source.
    """

    def __init__(self, key: bytes, *name: object) -> None:
        if len(key) != KEY:
            raise UsageError(f"a key of {KEY} bytes", len(key), f"Use `os.urandom({KEY})`")
        address = "/".join(map(str, name)).encode()
        self._stream = Keystream(blake2b(address, digest_size=KEY, key=key, person=b"feller agreed").digest())

    def random_bytes(self, count: int) -> bytes:
        if self._stream.taken + count > RENEW_BYTES:
            self._stream = Keystream(self._stream.random_bytes(KEY))
        return self._stream.random_bytes(count)


class SeededNoise(Noise):
    """Reproducible noise from a seed and a name, for tests: anyone who knows the seed can subtract the noise.

    Use a different name for each source, for example for a resumed run.
    """

    def __init__(self, seed: int, *name: object) -> None:
        address = "/".join(map(str, (seed, *name))).encode()
        self._stream = Keystream(blake2b(address, digest_size=KEY, person=b"feller noise").digest())

    def random_bytes(self, count: int) -> bytes:
        return self._stream.random_bytes(count)


def make_noise(seed: int | None, *name: object, key: bytes | None = None) -> Noise:
    """Return a source of noise: reproducible if a seed is given, else secret.

    Args:
        seed: Seed of reproducible noise, for tests; None for secret noise.
        name: Parts of the name of the source. Use each name only once: with a seed or a key, equal names give equal
            noise.
        key: Secret key; noise is identical in all processes that hold this key. None for noise that differs between
            processes; unused if a seed is given.
    """
    if seed is not None:
        return SeededNoise(seed, *name)
    return SecureNoise() if key is None else SharedKeyNoise(key, *name)
