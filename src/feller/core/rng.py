"""Counter-based random numbers: the same seed, purpose, step and example index give the same numbers."""

import functools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from numbers import Integral

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError, found_instead

BLOCK = 256
"""Number of consecutive examples that share a generator; an example's numbers depend on its index, not on its batch."""


def hash_seed(*keys: object) -> int:
    """Return a 56-bit seed, the hash of the keys."""
    return _number(_hash("/".join(map(str, keys))))


def _hash(text: str) -> blake2b:
    if torch.compiler.is_dynamo_compiling():  # the message is shown under fullgraph=True
        torch._dynamo.graph_break(msg="feller.Rng: sample outside the compiled function and pass the samples in")
    return blake2b(text.encode(), digest_size=7)


def _number(digest: blake2b) -> int:
    return int.from_bytes(digest.digest())


_THREAD_LOCAL, CONTIGUOUS = threading.local(), torch.contiguous_format


def _generator(device: torch.device | str) -> torch.Generator:
    """Return a generator to be seeded; on CPU, one per thread is reused because creating it is slower."""
    if (device if isinstance(device, str) else device.type) != "cpu":
        return torch.Generator(device)
    if not hasattr(_THREAD_LOCAL, "generator"):
        _THREAD_LOCAL.generator = torch.Generator()
    return _THREAD_LOCAL.generator


class RandomStream:
    """Random numbers of one purpose and step; the first axis of each shape counts examples.

    Each call seeds one generator per block of examples. An example's numbers depend on its index and on the number of
    earlier calls, not on the batch size, the start of the batch or the padding of the second axis.
    """

    __slots__ = ("_requests", "first_example", "global_batch_size", "key")

    def __init__(self, place: tuple[object, ...], first: int = 0, total: int | None = None) -> None:
        self.key = place
        self.first_example = first
        """Index of the first example of this batch."""
        self.global_batch_size = total
        """Size of the batch over all processes; None if unknown."""
        self._requests = 0

    def _request(self) -> tuple[object, ...]:
        self._requests += 1
        return (*self.key, self._requests - 1)

    def _fill(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
        sample: Callable[..., Tensor],
        fill_: Callable[..., Tensor],
        block_size: int = BLOCK,
        in_order: bool = False,
    ) -> Tensor:
        n, key = shape[0], self._request()
        first_block, end_block = self.first_example // block_size, -(-(self.first_example + n) // block_size)
        offset = self.first_example - first_block * block_size
        # Examples form the last axis while sampling, so that neither a partial block nor padding of other axes
        # changes the numbers of an example.
        generator = _generator(device)
        key_prefix = _hash("/".join(map(str, key)) + "/")  # only the block number follows
        try:
            if end_block - first_block == 1:
                if in_order and len(shape) == 1 and generator.device.type == "cpu":
                    block_size = offset + n  # skip the unused rest of the block
                key_prefix.update(b"%d" % first_block)
                generator.manual_seed(_number(key_prefix))
                samples = sample((*shape[1:], block_size), generator=generator, dtype=dtype, device=device)
                rows = samples if len(shape) == 1 else samples.movedim(-1, 0)
            else:
                samples = torch.empty((end_block - first_block, *shape[1:], block_size), dtype=dtype, device=device)
                for index, block in enumerate(samples.unbind(), first_block):
                    digest = key_prefix.copy()
                    digest.update(b"%d" % index)
                    fill_(block, generator=generator.manual_seed(_number(digest)))
                rows = samples.movedim(-1, 1).flatten(0, 1)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            remedy = "Sample first and pass the samples into vmap, as with objective.draw and objective.loss"
            raise UsageError(
                argument="rng", expected="sampling outside vmap", found="sampling inside vmap", remedy=remedy
            ) from error
        return rows.contiguous() if len(rows) == n else rows[offset : offset + n].clone(memory_format=CONTIGUOUS)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return independent samples of N(0, 1)."""
        return self._fill(shape, dtype, device, torch.randn, Tensor.normal_)

    def uniform(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        block: int = BLOCK,
    ) -> Tensor:
        """Sample uniform numbers on [0, 1).

        `block` is the number of examples that share a generator; a larger block is faster, but gives other numbers.
        """
        return self._fill(shape, dtype, device, torch.rand, Tensor.uniform_, block, True)

    def randint(self, high: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Sample integers uniformly from 0 to `high` - 1."""

        def fill(block: Tensor, generator: torch.Generator) -> Tensor:
            return block.random_(high, generator=generator)

        return self._fill(shape, torch.long, device, functools.partial(torch.randint, high), fill)

    def bernoulli(self, p: float, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Sample Bernoulli(p) variables with exact probability p; for small p, sample the gaps between successes."""
        if not 1e-12 < p < 0.1:  # the method must not depend on the shape
            return self.uniform(shape, torch.float64, device) < p
        n = math.prod(shape[1:])
        num_gaps = math.ceil(n * p + 8 * math.sqrt(n * p) + 10)
        successes = torch.zeros(shape[0], n + 1, dtype=torch.bool, device=device)
        last_position = torch.full((shape[0], 1), -1.0, dtype=torch.float64, device=device)
        stream = self.fork()
        while (last_position < n).any():  # a second pass has probability 1e-13 per example
            u = stream.uniform((shape[0], num_gaps), torch.float64, device)
            positions = last_position + (1 + (torch.log1p(-u) / math.log1p(-p)).floor()).cumsum(1)
            successes.scatter_(1, positions.clamp(max=n).long(), True)
            last_position = positions[:, -1:]
        return successes[:, :n].reshape(tuple(shape))

    def shared_generator(self) -> torch.Generator:
        """Return a CPU generator that is the same for all examples and all ranks."""
        return torch.Generator().manual_seed(hash_seed(*self._request(), "shared"))

    def fork(self) -> "RandomStream":
        """Return a separate stream for optional sampling; its use does not change the later numbers of this stream."""
        return RandomStream(self._request(), self.first_example, self.global_batch_size)


@dataclass(frozen=True)
class Rng:
    """Counter-based random numbers, addressed by seed, purpose, step and example index.

    Unlike the noise of a stateful generator, this noise is the same under gradient checkpointing, after resuming a run,
    and for any number of processes. It is unsuitable for differential privacy, because torch generators use only 32
    bits of the seed.
    """

    seed: int
    first_example: int = 0
    """Index of the first example of this batch."""
    global_batch_size: int | None = None
    """Size of the batch over all processes."""

    def __post_init__(self) -> None:
        if type(self.seed) is not int and (not isinstance(self.seed, Integral) or isinstance(self.seed, bool)):
            raise UsageError(argument="seed", expected="an integer", found=found_instead(self.seed))

    def stream(self, purpose: str, step: int = 0) -> RandomStream:
        """Return the random stream of a purpose and step."""
        return RandomStream((self.seed, purpose, step), self.first_example, self.global_batch_size)

    def step(self, number: int) -> "Rng":
        """Return an independent `Rng` for one step of a loop; otherwise each step would get the same numbers."""
        return self.fold_in("step", number)

    def fold_in(self, *keys: object) -> "Rng":
        """Return an independent `Rng` derived from keys, for a component that uses several random streams."""
        return Rng(hash_seed(self.seed, *keys), self.first_example, self.global_batch_size)


def check_rng(rng: object) -> None:
    """Check that the argument `rng` is a `feller.Rng`, not a seed or a torch generator."""
    if not isinstance(rng, Rng):
        remedy = "Pass rng=feller.Rng(seed), and rng.step(i) in step i of a loop"
        raise UsageError(argument="rng", expected="a feller.Rng", found=found_instead(rng), remedy=remedy)


NOT_FINITE_MESSAGE = "samples are not finite: the model is damaged or undertrained"
"""Error message for non-finite samples."""


def check_finite(values: Tensor) -> None:
    """Check that all sampled values are finite.

    Raises:
        InputError: If a value is not finite, as in the output of a damaged network.
    """
    if not math.isfinite(values.sum(dtype=torch.float64)):
        raise InputError(NOT_FINITE_MESSAGE)


def categorical(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample categorical indices [...] by inverting the CDF of `weights` at uniform float64 numbers [...].

    The weights [..., K] are probabilities, which need not be normalised.

    Float32 would lose the tail: its smallest positive uniform number is 2^-24, so rare tokens would never occur.

    Raises:
        InputError: If a weight is not finite, as in the output of a damaged network.
    """
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    check_finite(cumulative[..., -1])
    # A uniform number below 1 times the total rounds to less than the total; the clamp is for NaN weights.
    threshold = (uniform.double() * cumulative[..., -1]).unsqueeze(-1).contiguous()
    index = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return index.clamp(max=weights.shape[-1] - 1)
