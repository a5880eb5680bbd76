"""Another schedule after training: where the network must be asked, and what its answer means there.

Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.2.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, pad_right, spread, tree_map
from feller.networks.inner_networks import null_values
from feller.paths.affine import Affine
from feller.paths.discrete.mixture import Mixture
from feller.paths.geodesic import ManifoldPath
from feller.paths.path import Given, Network, Path
from feller.paths.predictions import Data, Prediction, Score, Source, Velocity, coefficients, combine
from feller.paths.product import Product
from feller.paths.schedules import Scales, Schedule

_Changes = Affine | ManifoldPath | Mixture
_NEAR_END = 1e-6
"""A velocity is asked for this far inside where the slope of a schedule is zero or infinite at its very end."""


def rescheduled(path: Path, network: Network, schedule: Schedule) -> tuple[Path, Network]:
    """Return the path with another schedule, and the network that drives it.

    Both paths have the same ends, so the new one at time r is s_r times the old one at the time t(r) where it holds
    data and source in the same ratio. The network is asked there, and its answer said in terms of the new schedule. The
    pair goes wherever the first one went: solvers, noise levels, guidance. Solved exactly, the new flow ends where the
    old one does.

    Ends that are not shared: if the new schedule starts with some data (`VP`), the start s_r x_0 leaves that out, which
    biases the new path as it would one trained on it. If the old one does, the network is asked at t = 0 until the new
    path holds as much, and the bias that the old path had at its start is all but gone. If the old one ends with some
    noise (`VE`), what its network says at t = 1 takes that out, to first order.

    Args:
        path: What the network was trained on.
        network: Any network, also a guided one.
        schedule: The new one; all parts of a product get it. All but affine paths need alpha + sigma = 1.

    Raises:
        UsageError: If the path is of a kind of your own, or the schedule does not suit it.
    """
    after = _with_schedule(path, schedule)
    before = _parts(path)

    def asked(x_r: State, r: State, given: Given) -> State:
        r = spread(r, x_r)
        views = tree_map(lambda part, r: _View(part, schedule, r), before, r)
        x_t = tree_map(lambda view, x: view.state(x), views, x_r)
        t = tree_map(lambda view: view.time, views)
        return tree_map(lambda view, x, y: view.answer(x, y), views, x_r, network(x_t, t, given))

    asked.nulls = null_values(network)  # pyrefly: ignore[missing-attribute] - guidance looks for them
    return after, asked


def same_ratio(before: Schedule, after: Schedule, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return t(r) and s_r: x_r of the second schedule is s_r x_t of the first; r in float64.

    Outside what the first schedule passes through, t is its nearest end.
    """
    alpha, sigma, *_ = _scales(after, r)
    t = torch.where(sigma > 0, before.time(alpha / sigma), 1.0)  # an infinite ratio has no time by formula
    t = torch.where(alpha > 0, t, 0.0).clamp(0, 1)
    old_alpha, old_sigma, *_ = _scales(before, t)
    # Each form divides by what is not small, so that neither end is 0 / 0.
    return t, torch.where(old_alpha >= old_sigma, alpha / old_alpha, sigma / old_sigma)


class _View:
    """A leaf of the new path at the times r, seen as the old path's."""

    def __init__(self, path: _Changes, schedule: Schedule, r: Tensor) -> None:
        self.path = path
        before = path.schedule
        if not isinstance(before, Schedule):
            raise UsageError(f"{type(before).__name__} has a ratio for each symbol, so no other schedule can follow it")
        expanded = r.ndim == 1 and len(r) > 0 and r.stride(0) == 0
        once = (r[:1] if expanded else r).double()  # all times are one, as solvers give it
        if isinstance(path, ManifoldPath) or getattr(path, "prediction", None) == Velocity():
            once = _inside(before, schedule, once)
        t, self.s = same_ratio(before, schedule, once)
        then, now = _scales(before, t), _scales(schedule, once)
        self.then, self.now = Scales(*then), Scales(*now)
        (old_alpha, old_sigma, old_rate, _), (self.alpha, self.sigma, rate, _) = then, now
        self.rate = rate / old_rate
        self.late = old_alpha >= old_sigma
        # Before an old start with data, E[x_1 | x] stays; past an old end with noise the score does, so that E[x_0 | x]
        # falls with the ratio. Both are 1 where the old path goes.
        rise = self.alpha * old_sigma / (self.sigma * old_alpha)
        self.rise = torch.where((t > 0) | (old_alpha <= 0), 1.0, rise)
        self.fall = torch.where((t < 1) | (old_sigma <= 0), 1.0, 1 / rise)
        self.time = t.to(r.dtype).expand(r.shape)

    def state(self, x: Tensor) -> Tensor:
        """Return the old path's state; only an affine path may differ in scale."""
        return x / pad_right(self.s.to(x.dtype), x) if isinstance(self.path, Affine) else x

    def answer(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Turn the answer about the old path into one about the new."""
        if isinstance(self.path, Affine):
            c, d = self._weights(self.path.prediction)
            return combine(c, x, d, prediction)
        if isinstance(self.path, ManifoldPath):
            return combine(0.0, x, self.rate, prediction)
        return prediction

    def _weights(self, kind: Prediction) -> tuple[Tensor, Tensor]:
        """Return c and d of the new answer c x + d (old answer)."""
        if isinstance(kind, Data):
            return torch.where(self.fall < 1, (1 - self.fall**2) / self.alpha, 0.0), self.fall**2
        on_state = torch.where(self.rise < 1, (1 - self.rise) / self.sigma, 0.0)
        if isinstance(kind, Source):
            return on_state, self.rise * self.fall
        if isinstance(kind, Score):
            return torch.where(self.rise < 1, -on_state / self.sigma, 0.0), self.rise / self.s
        # Through E[x_0 | x] where there is more data than source, else through E[x_1 | x]: neither is a quotient of
        # small numbers there.
        through = []
        for end, weight in ((Source(), self.fall), (Data(), torch.ones_like(self.fall))):
            on_state, on_old = coefficients(kind, end, self.then)
            on_new_state, on_end = coefficients(end, kind, self.now)
            through.append((on_new_state + weight * on_end * on_state / self.s, weight * on_end * on_old))
        (source_c, source_d), (data_c, data_d) = through
        return torch.where(self.late, source_c, data_c), torch.where(self.late, source_d, data_d)


def _scales(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return alpha, sigma and their slopes as tensors, also those that do not depend on time."""
    a, b, c, d = (torch.as_tensor(number, dtype=t.dtype, device=t.device).expand(t.shape) for number in schedule(t))
    return a, b, c, d


def _inside(before: Schedule, after: Schedule, r: Tensor) -> Tensor:
    """Move times away from an end where either velocity says nothing: its Wronskian is 0 or infinite."""
    t, _ = same_ratio(before, after, r)
    flat = torch.zeros_like(r, dtype=torch.bool)
    for schedule, time in ((before, t), (after, r)):
        wronskian = torch.as_tensor(Scales(*_scales(schedule, time)).wronskian)
        flat = flat | (wronskian <= 0) | ~wronskian.isfinite()
    return torch.where(flat, r.clamp(_NEAR_END, 1 - _NEAR_END), r)


def _with_schedule(path: Path, schedule: Schedule) -> Path:
    """Return the same path with another schedule, everywhere."""
    if isinstance(path, Product):
        return Product({name: _with_schedule(part, schedule) for name, part in path.parts.items()})
    if isinstance(path, _Changes):
        return replace(path, schedule=schedule)
    raise UsageError(f"a path of kind {type(path).__name__} cannot change its schedule; those of the library can")


def _parts(path: Path) -> Any:
    """Return the paths of all leaves, as a tree."""
    return {name: _parts(part) for name, part in path.parts.items()} if isinstance(path, Product) else path
