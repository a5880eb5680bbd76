"""From a network to ends of its process, one batch after the other; which batch a sample is in does not matter."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Given, State, leaves, tree_map
from feller.core.rng import INFINITE, Draws
from feller.core.user_code import called, is_own
from feller.networks.sequence.categorical_columns import NEVER
from feller.paths import AnyOrder, Autoregressive, Graphical, Interleaved, Network, Path, TokenPath
from feller.paths.discrete.token_sampler import Choice
from feller.paths.processes import hold, stand
from feller.paths.product import parts
from feller.paths.time_distributions import linear_grid
from feller.privacy.marginals.marginal_network import MarginalNetwork
from feller.sampling import Solver, simulate
from feller.sampling.autoregressive.decode import decode
from feller.sampling.autoregressive.decoding_goals import Free
from feller.sampling.autoregressive.document_decode import Way, generate
from feller.sampling.autoregressive.row_decode import fill
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import Sampling
from feller.spaces import Space


class Infinite(InputError):
    """Samples ran away."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is given of samples, and kept."""

    values: Shaped[Tensor, " n *d"]
    """A state; what is to be drawn means nothing."""
    kept: Bool[Tensor, " n *d"]
    """True is kept."""
    ways: int = 0
    """Of rows whose columns have one order: weigh so many ways of filling each, instead of drawing until it fits."""
    never: Int64[Tensor, " places"] | None = None
    """Of rows: a token of each place that is not drawn where another may stand; -1 for none."""

    def part(self, rows: slice) -> "Known":
        """Return what is given of some samples."""
        return replace(self, values=self.values[rows], kept=self.kept[rows])


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is drawn, and how."""

    path: Path
    space: Space
    network: Any
    sampling: Sampling
    draws: Draws
    solver: Solver | None = None
    """In place of the named one, with its number of calls."""
    guidance: float = 1.0
    """1 is the plain conditional, 0 the unconditional."""
    absent: tuple[str, ...] = ()
    """Conditions that the unconditional lacks."""
    end: int | None = None
    """Symbol with which a text ends; not drawn before one that is kept."""
    seen: Callable[[float, State], None] = lambda t, x: None
    """Hears time and states of a batch after each step of a process in time; other laws have none."""

    def ends(
        self,
        n: int,
        given: Given,
        *,
        known: Known | None = None,
        fixed: dict[str, State] | None = None,
        batch: int | None = None,
        tell: Callable[[float], None] = lambda share: None,
    ) -> Iterator[tuple[State, State]]:
        """Yield source and end of each batch.

        Args:
            n: Number of samples.
            given: Conditions, with n entries each.
            known: Symbols that are kept.
            fixed: Leaves of the state that are given, with n entries each; the others are drawn beside them.
            batch: Samples that are drawn together; by default as many as the device likes.
            tell: Hears which share is done.

        Raises:
            UsageError: If parts are known of states that are not symbols, or a solver does not suit the path.
            InputError: If samples become infinite.
        """
        if known is not None and not isinstance(self.path, TokenPath | Autoregressive | Graphical):
            raise UsageError("only symbols can be filled in so far, and this model's data are numbers")
        device = next(self.network.parameters()).device
        batch = batch or batch_size(self.space, device)
        for rows, share in pieces(n, batch, tell):

            def here(leaf: Tensor, rows: slice = rows) -> Tensor:
                return leaf[rows].to(device)

            size, some = rows.stop - rows.start, tree_map(here, given)
            draws = replace(self.draws, first=self.draws.first + rows.start)
            part = None if known is None else replace(known, values=here(known.values), kept=here(known.kept))
            if isinstance(self.path, AnyOrder):
                yield self._filled(size, part, draws, share)
            elif isinstance(self.path, Graphical):
                yield self._whole(size, part, draws, share)
            elif isinstance(self.path, Interleaved):
                yield self._written(size, draws, share)
            elif isinstance(self.path, Autoregressive):
                yield self._decoded(size, some, part, draws, share)
            else:
                yield self._simulated(size, some, part, tree_map(here, fixed or {}), draws, share)

    def _simulated(
        self,
        n: int,
        given: Given,
        known: Known | None,
        fixed: dict[str, State],
        draws: Draws,
        tell: Callable[[float], None],
    ) -> tuple[State, State]:
        """Follow the process from the source; what is known or fixed stands still."""
        path, solver, times = self.sampling.choose(self.path, self.space)
        if self.solver is not None:
            solver, times = self.solver, linear_grid(max(self.sampling.calls // self.solver.calls, 1))
        network: Network = cfg(self.network, self.guidance, absent=self.absent)
        x_0 = self.space.reference(n, draws.at("source"), next(self.network.parameters()).device)
        if known is None:
            x, process = path.start(x_0), path.process(network, given)
            if fixed:
                x, process = {**x, **fixed}, stand(process, fixed.keys())
        else:
            wrong = known.kept & ((known.values < 0) | (known.values >= getattr(self.space, "count", torch.inf)))
            if wrong.any():
                raise UsageError(
                    f"{int(known.values[wrong][0])} is known and no symbol of the data, which are from 0 to "
                    f"{getattr(self.space, 'count', 0) - 1}; mark it as not kept to have it drawn"
                )
            if self.end is not None:
                network = _going_on(network, known.kept, self.end)
            x = torch.where(known.kept, known.values, x_0)
            process = hold(path.process(network, {**given, "known": known.kept}), known.kept)
        with torch.no_grad():
            self.seen(times[0], x)
            for step, state in enumerate(simulate(process, x, times, solver, draws), 1):
                x = state
                self.seen(times[step], x)
                tell(step / (len(times) - 1))
        if not all(torch.isfinite(leaf).all() for leaf in leaves(x) if leaf.is_floating_point()):
            own = [called(part) for part in parts(self.path) if is_own(part)]
            raise Infinite(
                INFINITE + (f", or the process of {' or '.join(own)}, which is code of yours, runs away" if own else "")
            )
        return x_0, x

    def _decoded(
        self, n: int, given: Given, known: Known | None, draws: Draws, tell: Callable[[float], None]
    ) -> tuple[State, State]:
        """Draw token after token; there is no source."""
        self._check_solves_nothing("token after token")
        (length,) = self.space.reference(0, draws.at("shape")).shape[1:]
        x = decode(
            self.network,
            n,
            length,
            given,
            draws,
            choice=self.sampling.choice,
            known=None if known is None else (known.values, known.kept),
            end=self.end,
            guidance=self.guidance,
        )
        tell(1.0)
        return x, x

    def _written(self, n: int, draws: Draws, tell: Callable[[float], None]) -> tuple[State, State]:
        """Draw documents of which nothing is said; there is no source."""
        self._check_solves_nothing("token after token")
        symbols, most = self.network.symbols, self.network.context - 1
        begun = torch.tensor([symbols.eos])
        ways = (Way(choice=self.sampling.choice),)
        drawn = generate(self.network, [[begun] * n], Free(most), draws, ways=ways)
        x = torch.full((n, self.network.context), symbols.pad)
        for row, tokens in zip(x, drawn, strict=True):
            row[: len(tokens) + 1] = torch.cat([begun, tokens.cpu()])
        tell(1.0)
        return x, x

    def _filled(self, n: int, known: Known | None, draws: Draws, tell: Callable[[float], None]) -> tuple[State, State]:
        """Draw column after column; there is no source."""
        self._check_solves_nothing("column after column")
        x = fill(
            self.network,
            n,
            draws,
            choice=self.sampling.choice,
            known=None if known is None else (known.values, known.kept),
            anyhow=isinstance(self.path, AnyOrder) and self.path.anyhow,
            ways=0 if known is None else known.ways,
            never=None if known is None else known.never,
        )
        tell(1.0)
        return x, x

    def _whole(self, n: int, known: Known | None, draws: Draws, tell: Callable[[float], None]) -> tuple[State, State]:
        """Draw whole rows; there is no source."""
        self._check_solves_nothing("whole rows")
        if self.sampling.choice != Choice():
            raise UsageError("this model knows no choice among single symbols; leave temperature, top-k and top-p out")
        network: MarginalNetwork = self.network
        given = None if known is None else (known.values, known.kept)
        x = network.draw(n, draws, given, None if known is None else known.never)
        tell(1.0)
        return x, x

    def _check_solves_nothing(self, how: str) -> None:
        """Refuse what means something to a process in time alone."""
        asked = self.sampling.order or self.sampling.rates
        if asked is not None or self.sampling.solver != "euler" or self.solver is not None:
            raise UsageError(
                f"this model writes {how}, so that its order is fixed and there is nothing to solve; leave out order,"
                " rates and solver"
            )


def _going_on(network: Network, kept: Bool[Tensor, "b n"], end: int) -> Network:
    """Return a network that answers with logits and ends no text before a symbol of it that is kept."""
    goes_on = kept.flip(1).cumsum(1).flip(1) > 0

    def going_on(x_t: State, t: State, given: Given) -> State:
        logits = network(x_t, t, given)
        symbols = torch.arange(logits.shape[-1], device=logits.device)
        return logits.masked_fill(goes_on[:, :, None] & (symbols == end), NEVER * torch.finfo(logits.dtype).min)

    return going_on


Progress = Callable[[float], None]
"""Hears which share is done."""


def pieces(n: int, size: int, tell: Progress) -> Iterator[tuple[slice, Progress]]:
    """Yield the rows of one batch after the other, and who hears which share of that batch is done."""
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))

        def share(done: float, rows: slice = rows) -> None:
            tell((rows.start + (rows.stop - rows.start) * done) / n)

        yield rows, share


def batch_size(space: Space, device: torch.device) -> int:
    """Return how many states go through the network together: few enough for a processor's caches."""
    numbers = sum(math.prod(leaf.shape[1:]) for leaf in leaves(space.reference(0, Draws(0).at("size"))))
    room = 2**14 if device.type == "cpu" else 2**20
    return max(32, min(4096, room // max(numbers, 1)))
