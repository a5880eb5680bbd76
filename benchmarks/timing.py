"""Timing of contenders: alternately, in one thread, by CPU time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Case:
    """A task for several packages."""

    name: str
    contenders: dict[str, Callable[[], object]]
    """Name -> function to time: first feller, then peers, and bare loops, whose names begin with "floor"."""
    repeat: int = 7
    """Rounds; in each, every contender runs once."""
    inner: int = 1
    """Calls per run, for short tasks."""
    max_floor_ratio: float | None = None
    """Maximum ratio of feller's time to that of the floor; None for no limit."""
    max_peer_ratio: float = 1.0
    """Maximum ratio of feller's time to that of a peer, before the tolerance."""
    max_milliseconds: float | None = None
    """Maximum time of feller per call; None for no limit."""
    note: Callable[[], str] = field(default=lambda: "")


@dataclass(frozen=True)
class Row:
    """Measurements of a case."""

    name: str
    milliseconds: dict[str, float]
    """Median per call."""
    ratios: dict[str, float]
    """Name of another contender -> feller's time divided by its time: median of the ratios of all rounds."""
    max_floor_ratio: float | None
    max_peer_ratio: float
    max_milliseconds: float | None
    note: str
    repeats: int
    """Number of rounds of which medians are taken."""

    @property
    def ours(self) -> float:
        """Milliseconds of feller."""
        return next(iter(self.milliseconds.values()))

    @property
    def passed(self) -> bool:
        """True if all limits hold: the ratio to peers with a tolerance of 5 % for noise, the others exactly."""
        peers = all(
            ratio <= 1.05 * self.max_peer_ratio for name, ratio in self.ratios.items() if not name.startswith("floor")
        )
        floors = [ratio for name, ratio in self.ratios.items() if name.startswith("floor")]
        near = self.max_floor_ratio is None or all(ratio <= self.max_floor_ratio for ratio in floors)
        return peers and near and (self.max_milliseconds is None or self.ours <= self.max_milliseconds)


def settle() -> None:
    """Free one large block of memory; otherwise the contender that runs first pays for page faults."""
    torch.empty(30 * 2**20, dtype=torch.uint8).zero_()


def measure(case: Case) -> Row:
    """Time all contenders of a case, alternately."""
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    for run in case.contenders.values():
        run()
    for _ in range(case.repeat):
        for name, run in case.contenders.items():
            begin = time.process_time()
            for _ in range(case.inner):
                run()
            times[name].append((time.process_time() - begin) / case.inner)
    first = next(iter(times))
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[first], series, strict=True))
        for name, series in times.items()
        if name != first
    }
    return Row(
        case.name,
        {name: 1e3 * statistics.median(series) for name, series in times.items()},
        ratios,
        case.max_floor_ratio,
        case.max_peer_ratio,
        case.max_milliseconds,
        case.note(),
        case.repeat,
    )
