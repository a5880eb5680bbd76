"""Random numbers that are addressed, so that asking twice gives the same answer."""

import functools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError, found_instead

BLOCK = 256
"""Examples that share a generator; what an example draws depends on its number, not on the batch it is in."""


def hash_seed(*keys: object) -> int:
    """Hash what a random number is for into a seed of 56 bits."""
    return _number(_hash("/".join(map(str, keys))))


def _hash(text: str) -> blake2b:
    if torch.compiler.is_dynamo_compiling():  # where one graph is asked for, this is what the compiler says
        torch._dynamo.graph_break(msg="feller.Rng: draw before the function that is compiled, and pass what was drawn")
    return blake2b(text.encode(), digest_size=7)


def _number(digest: blake2b) -> int:
    return int.from_bytes(digest.digest())


_THREAD_LOCAL, CONTIGUOUS = threading.local(), torch.contiguous_format


def _generator(device: torch.device | str) -> torch.Generator:
    """Return a generator to be seeded: on the processor one that each thread keeps, since making it takes longer."""
    if (device if isinstance(device, str) else device.type) != "cpu":
        return torch.Generator(device)
    if not hasattr(_THREAD_LOCAL, "generator"):
        _THREAD_LOCAL.generator = torch.Generator()
    return _THREAD_LOCAL.generator


class RandomStream:
    """Random numbers of one purpose and step; the first axis of each shape counts examples.

    Each request has a stream of its own for each block of examples, so the order of requests matters and nothing else
    does: not the size of the batch, not where it begins, not how far its second axis is padded.
    """

    __slots__ = ("_requests", "first_example", "global_batch_size", "key")

    def __init__(self, place: tuple[object, ...], first: int = 0, total: int | None = None) -> None:
        self.key = place
        self.first_example = first
        """Number of the first example of this batch."""
        self.global_batch_size = total
        """Examples in the whole batch, over all processes; None where unknown."""
        self._requests = 0

    def _request(self) -> tuple[object, ...]:
        self._requests += 1
        return (*self.key, self._requests - 1)

    def _fill(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
        make: Callable[..., Tensor],
        fill: Callable[..., Tensor],
        size: int = BLOCK,
        in_order: bool = False,
    ) -> Tensor:
        n, place = shape[0], self._request()
        first, last = self.first_example // size, -(-(self.first_example + n) // size)
        start = self.first_example - first * size
        # Examples go along the last axis while they are drawn: then neither a batch that ends inside a block nor
        # padding of the other axes moves a number.
        generator = _generator(device)
        key_prefix = _hash("/".join(map(str, place)) + "/")  # of each block only the last word differs
        try:
            if last - first == 1:
                if in_order and len(shape) == 1 and generator.device.type == "cpu":
                    size = start + n  # the rest of the block would be drawn for nobody
                key_prefix.update(b"%d" % first)
                generator.manual_seed(_number(key_prefix))
                whole = make((*shape[1:], size), generator=generator, dtype=dtype, device=device)
                rows = whole if len(shape) == 1 else whole.movedim(-1, 0)
            else:
                whole = torch.empty((last - first, *shape[1:], size), dtype=dtype, device=device)
                for block, part in enumerate(whole.unbind(), first):
                    digest = key_prefix.copy()
                    digest.update(b"%d" % block)
                    fill(part, generator=generator.manual_seed(_number(digest)))
                rows = whole.movedim(-1, 1).flatten(0, 1)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            remedy = "Draw first, and map over what was drawn, as objective.loss lets you"
            raise UsageError(
                argument="rng", expected="draws outside of vmap", found="one in it", remedy=remedy
            ) from error
        return rows.contiguous() if len(rows) == n else rows[start : start + n].clone(memory_format=CONTIGUOUS)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw from N(0, 1)."""
        return self._fill(shape, dtype, device, torch.randn, Tensor.normal_)

    def uniform(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        block: int = BLOCK,
    ) -> Tensor:
        """Draw from [0, 1); a larger block takes less time where each example needs a single number."""
        return self._fill(shape, dtype, device, torch.rand, Tensor.uniform_, block, True)

    def randint(self, high: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw whole numbers from 0 to `high` - 1."""

        def fill(part: Tensor, generator: torch.Generator) -> Tensor:
            return part.random_(high, generator=generator)

        return self._fill(shape, torch.long, device, functools.partial(torch.randint, high), fill)

    def bernoulli(self, p: float, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Flip coins that all have one chance, exactly; where heads are rare, by drawing the gaps between them."""
        if not 1e-12 < p < 0.1:  # which way must not depend on the shape
            return self.uniform(shape, torch.float64, device) < p
        n = math.prod(shape[1:])
        num_gaps = math.ceil(n * p + 8 * math.sqrt(n * p) + 10)
        heads = torch.zeros(shape[0], n + 1, dtype=torch.bool, device=device)
        last = torch.full((shape[0], 1), -1.0, dtype=torch.float64, device=device)
        more = self.fork()
        while (last < n).any():  # more than once in 1e13 examples
            u = more.uniform((shape[0], num_gaps), torch.float64, device)
            place = last + (1 + (torch.log1p(-u) / math.log1p(-p)).floor()).cumsum(1)
            heads.scatter_(1, place.clamp(max=n).long(), True)
            last = place[:, -1:]
        return heads[:, :n].reshape(tuple(shape))

    def shared_generator(self) -> torch.Generator:
        """Return a generator on the processor that is the same for all examples and all ranks."""
        return torch.Generator().manual_seed(hash_seed(*self._request(), "shared"))

    def fork(self) -> "RandomStream":
        """Return the numbers of what may not happen: whether it draws, and how often, moves no later request."""
        return RandomStream(self._request(), self.first_example, self.global_batch_size)


@dataclass(frozen=True)
class Rng:
    """A source of random numbers addressed by seed, purpose, step and number of the example.

    A running stream would draw other noise when a step is computed again for its gradient, when a run is resumed, or
    when another number of processes shares the work. Not for private noise: torch's generator uses 32 bits of a seed.
    """

    seed: int
    first_example: int = 0
    """Number of the first example of this batch."""
    global_batch_size: int | None = None
    """Examples in the whole batch, over all processes."""

    def stream(self, purpose: str, step: int = 0) -> RandomStream:
        """Return the random numbers of one step; nothing is made before something is drawn."""
        return RandomStream((self.seed, purpose, step), self.first_example, self.global_batch_size)

    def step(self, number: int) -> "Rng":
        """Return an independent source for one step of a loop: the same source at each step repeats its numbers."""
        return self.fold_in("step", number)

    def fold_in(self, *keys: object) -> "Rng":
        """Return an independent source, for a part or a step that draws for several purposes."""
        return Rng(hash_seed(self.seed, *keys), self.first_example, self.global_batch_size)


def check_rng(rng: object) -> None:
    """Refuse a seed, or a generator of torch, where addressed random numbers are wanted."""
    if not isinstance(rng, Rng):
        remedy = "Write rng=feller.Rng(seed), and rng.step(i) in step i of a loop"
        raise UsageError(argument="rng", expected="a feller.Rng", found=found_instead(rng), remedy=remedy)


NOT_FINITE_MESSAGE = "samples became infinite: the model is damaged or was trained too little"
"""What is said of samples that are no numbers."""


def check_finite(values: Tensor) -> None:
    """Refuse to draw by numbers that are none.

    Raises:
        InputError: If some are not finite, as the answers of a damaged network are.
    """
    if not math.isfinite(values.sum(dtype=torch.float64)):
        raise InputError(NOT_FINITE_MESSAGE)


def categorical(weights: Tensor, uniform: Tensor) -> Tensor:
    """Invert the distribution function: weights [..., K] and uniform numbers [...] in float64 -> indices [...].

    Float32 would lose the tail: it has no uniform number below 2^-24, so rare tokens would never come.

    Raises:
        InputError: If weights are not finite, as the answers of a damaged network are.
    """
    total = weights.cumsum(-1, dtype=torch.float64)
    check_finite(total[..., -1])
    # A uniform below 1 times the total rounds to less than the total; the clamp is for weights that are not numbers.
    goal = (uniform.double() * total[..., -1]).unsqueeze(-1).contiguous()
    index = torch.searchsorted(total, goal, right=True).squeeze(-1)
    return index.clamp(max=weights.shape[-1] - 1)
