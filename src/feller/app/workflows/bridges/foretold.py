"""How long a bridge will take on this machine: two first rounds are tried with few steps, on networks of their own."""

import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from feller.app.reporter import in_words
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.progress import Progress
from feller.control.bridges.rounds import rounds
from feller.control.bridges.settings import Bridging
from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.training.engine import Engine

FEW, MORE = 3, 28
"""Steps of matching that are tried in the first round and in the second; of looking for pinned paths, FEW in both."""
SHARE = 0.05
"""Of the steps of a bridge that are tried at most."""
PINNED, MATCHED, WALKED = "pinned paths", "loss", "done"
"""What the rounds say they are at: looking for paths, at the end of matching, at the end of a round."""


class Matched(Exception):
    """A round has come as far as it is tried."""


def foretold_bridge(
    problem: BridgeProblem,
    settings: Bridging,
    done: int,
    fresh: Callable[[Bridging], Progress],
    draws: Draws,
    here: Engine,
    clock: Callable[[], float] = time.perf_counter,
    *,
    room: float | None = None,
) -> str | None:
    """Return a sentence on how long the rounds of a bridge will take; None where that is not worth a trial.

    Args:
        problem: What is bridged.
        settings: How.
        done: Rounds that are done.
        fresh: Makes a new network with its optimisers.
        draws: Source of all randomness.
        here: Device and processes, all of which do the same.
        clock: Returns seconds.
        room: Seconds that are left, where no number of rounds is known.
    """
    steps, left = settings.train.steps or 1, 1 if room is not None else (settings.rounds or 0) - done
    if settings.control.steps <= FEW or SHARE * steps * left < FEW + MORE:
        return None

    def tried(matching: int, until: str) -> tuple[float, float, float]:
        """Return the seconds of one step of looking for paths, of matching with what precedes it, and of the rest."""
        short = replace(
            settings, control=replace(settings.control, steps=FEW), train=replace(settings.train, steps=matching)
        )
        told, paths = dict[str, float](), list[float]()

        def hear(share: float, text: str) -> None:
            name = MATCHED if text.startswith(MATCHED) else text
            told[name] = clock()
            if name == PINNED:
                paths.append(told[name])
            if name == until:
                raise Matched

        with contextlib.suppress(Matched):
            next(rounds(problem, short, fresh(short), draws, here, tell=hear))
        each = min(late - early for early, late in itertools.pairwise(paths))
        return each, told[MATCHED] - told[PINNED], told.get(WALKED, told[MATCHED]) - told[MATCHED]

    try:
        _, little, _ = tried(FEW, MATCHED)
        path, much, walk = tried(MORE, WALKED)
    except InputError:  # trajectories of drifts that have learned next to nothing may run away
        return None
    step = max(much - little, 0.0) / (MORE - FEW)
    legs = len(problem.crowds)
    whole = legs * settings.control.steps * path + (little - FEW * step) + steps * step + walk
    seconds = here.agree(left * whole)
    if room is not None:
        fit = max(1, int(room / max(seconds, 1e-9)))
        if (done + fit) % 2 == 0:  # the last goes ahead
            fit = fit - 1 if fit > 1 else 2
        many = "1 round" if fit == 1 else f"{fit} rounds"
        return f"about {in_words(seconds)} for a round on this machine, so that {many} fit, and the report after them"
    return f"about {in_words(seconds)} for {left} rounds on this machine, and the report after them"
