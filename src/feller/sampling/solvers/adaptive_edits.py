"""Solver of edit paths that adapts its steps to the expected number of edits."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import State
from feller.core.rng import RandomStream
from feller.paths.edits.edit_path import MAX_TIME
from feller.paths.processes import Characteristics, Jumps, Process
from feller.sampling.solvers.solver import Solver
from feller.spaces.sequences import Sequences

MIN_STEP = 1e-4
"""Smallest step, for networks whose rates do not fall."""
MAX_PASSES = 16
"""Maximum number of further evaluations at t = 1, each of which replaces all masks."""
BISECTIONS = 24
"""Number of bisections of a step."""


@dataclass(frozen=True)
class AdaptiveEdits(Solver):
    """Solver whose steps have a bounded expected number of edits per gap, for each sequence on its own.

    A step from t to s makes all edits at once, from one evaluation of the network. Where more edits are expected, the
    step is divided. At s = 1, mask tokens that are left are replaced.
    """

    space: Sequences
    max_edits: float = 0.5
    """Maximum expected number of edits per gap of a sequence in a step; smaller values are more accurate."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Sequences, "feller.Sequences(vocab_size, max_length)")
        check_number("max_edits", self.max_edits, gt=0, lt=float("inf"))

    def step(self, process: Process, x: State, t: float, s: float, rng: RandomStream) -> State:
        if s <= t:
            raise UsageError(f"increasing times, since jumps cannot be reversed, from {t:g}", f"{s:g}")
        now = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
        last = min(s, MAX_TIME)
        while (is_open := now < s).any():
            jumps = _jumps(process(x, now.clamp(max=MAX_TIME).float()))
            end = torch.where(now >= last, s, self._end(jumps, x, now, last))
            moved = jumps.apply(x, end, rng)
            x, now = torch.where(is_open[:, None], moved, x), torch.where(is_open, end, now)
        for _ in range(MAX_PASSES if s >= 1 else 0):  # masks that the last step inserted
            has_mask = (x == self.space.mask_token_id).any(1, keepdim=True)
            if not has_mask.any():
                break
            jumps = _jumps(process(x, torch.full((len(x),), MAX_TIME, device=x.device)))
            x = torch.where(has_mask, jumps.apply(x, 1.0, rng), x)
        return x

    def _end(self, jumps: Jumps, x: Int64[Tensor, "b l"], t: Float64[Tensor, " b"], s: float) -> Float64[Tensor, " b"]:
        """Return the end of the next step of each sequence: s, or the time at which the expected edits are too many."""
        bound = self.max_edits * (1 + self.space.lengths(x))
        low, high = torch.minimum(t + MIN_STEP, torch.full_like(t, s)), torch.full_like(t, s)
        if (jumps.hazard(cast(float, high)) <= bound).all():
            return high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            is_above = jumps.hazard(cast(float, middle)) > bound
            low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
        return torch.where(jumps.hazard(s) <= bound, s, low)


def _jumps(now: State) -> Jumps:
    if not isinstance(now, Characteristics) or now.jumps is None:
        raise UsageError("a process with jumps of sequences, such as that of EditFlow", type(now).__name__)
    return now.jumps
