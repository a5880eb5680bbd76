"""How contenders are timed: in turn, one thread, processor time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Case:
    """One task that several packages do."""

    name: str
    contenders: dict[str, Callable[[], object]]
    """The first is feller; a name that begins with "floor" is a bare loop, the others are peers."""
    repeat: int = 7
    """Rounds; in each, every contender runs once."""
    inner: int = 1
    """Calls per run, for short tasks."""
    within: float | None = None
    """Times the floor that we allow ourselves."""
    asked: float = 1.0
    """Times a peer that we allow ourselves."""
    most: float | None = None
    """Milliseconds that we allow ourselves."""
    note: Callable[[], str] = field(default=lambda: "")


@dataclass(frozen=True)
class Row:
    """What a case gave."""

    name: str
    milliseconds: dict[str, float]
    """Median per call."""
    ratios: dict[str, float]
    """feller over each other: median of the ratios of each round."""
    within: float | None
    asked: float
    most: float | None
    note: str
    repeats: int
    """Rounds that the medians are of."""

    @property
    def ours(self) -> float:
        """Milliseconds of feller."""
        return next(iter(self.milliseconds.values()))

    @property
    def passed(self) -> bool:
        """Whether all peers are slower by what was asked, to 5 % of noise; floors and limits are exact."""
        peers = all(ratio <= 1.05 * self.asked for name, ratio in self.ratios.items() if not name.startswith("floor"))
        floors = [ratio for name, ratio in self.ratios.items() if name.startswith("floor")]
        near = self.within is None or all(ratio <= self.within for ratio in floors)
        return peers and near and (self.most is None or self.ours <= self.most)


def settle() -> None:
    """Free one large block: before that, every temporary costs page faults for whoever runs first."""
    torch.empty(30 * 2**20, dtype=torch.uint8).zero_()


def measure(case: Case) -> Row:
    """Time all contenders of a case, in turn."""
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
        case.within,
        case.asked,
        case.most,
        case.note(),
        case.repeat,
    )
