"""How long a training and its report will take on this machine, from a few steps of them."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace

from feller.app.reporter import in_words
from feller.app.workflows.fitting.training_job import Prepared
from feller.core.rng import Draws
from feller.training.engine import Engine
from feller.training.loop import Batches, make_learner, train
from feller.training.parallelize import dress

TRIED, UNUSUAL = 30, 3
"""Steps that are tried at most, and the first of them, which are slower than others."""
SHARE, LONGEST = 0.05, 4.0
"""Of a training that a trial may take, and its seconds at most."""


def foretold(
    ready: Prepared, feed: Batches, here: Engine, clock: Callable[[], float] = time.perf_counter
) -> str | None:
    """Return a sentence on how long a training will take, or how many steps fit into its minutes.

    None where that is not worth a trial, or must not be told, as of a private training, whose steps take as long as
    they have rows.

    Args:
        ready: What is to be trained; it stays as it is.
        feed: Gives each step its examples.
        here: Device and processes.
        clock: Returns seconds.
    """
    training, learner = ready.training, ready.learner
    if not ready.tried or not ready.tells_loss or training.replay != 1:
        return None
    if training.steps is not None:
        left = training.steps - learner.step
        each = seconds_per_step(ready, feed, here, min(ready.tried, int(SHARE * left)), LONGEST, clock)
        return None if each is None else whole_in_words(each * left, report_after(ready, here, each * left, clock))
    seconds = 60 * (training.minutes or 0) - learner.seconds
    each = seconds_per_step(ready, feed, here, ready.tried, min(LONGEST, SHARE * seconds), clock)
    if each is None:
        return None
    number, after = rounded(seconds / each), report_after(ready, here, seconds, clock)
    fit = f"about {number:,} step{' fits' if number == 1 else 's fit'} into that time on this machine"
    return (
        fit
        if after is None
        else f"{fit}; the report takes about {in_words(after)} more{_shorter(ready, after, seconds)}"
    )


def _shorter(ready: Prepared, after: float, seconds: float) -> str:
    """Say how a report that takes longer than its training is made shorter, or made later."""
    if after <= seconds:
        return ""
    size = ready.record.get("asked", {}).get("size")
    smaller = "" if size == "tiny" else "--size tiny makes it shorter, and "
    return f" ({smaller}Ctrl-C after the training leaves it for later: feller evaluate RUN)"


def whole_in_words(training: float, after: float | None) -> str:
    """Say how many seconds a training takes, and, where that is known, the report after it."""
    if after is None:
        return f"about {in_words(training)} of training on this machine"
    return f"about {in_words(training + after)} on this machine, of which {in_words(after)} for the report"


def report_after(ready: Prepared, here: Engine, seconds: float, clock: Callable[[], float]) -> float | None:
    """Return the seconds of the report after so many of training, as the first process finds them."""
    found = ready.report(here, min(LONGEST, SHARE * seconds), clock)
    known = here.agree(0.0 if found is None else found)
    return known or None


def seconds_per_step(
    ready: Prepared, feed: Batches, here: Engine, steps: int, seconds: float, clock: Callable[[], float]
) -> float | None:
    """Take steps on a copy of what is trained, and return the mean time of one; None if there are too few of them.

    Args:
        ready: What is to be trained.
        feed: Gives each step its examples.
        here: Device and processes, all of which take the same steps.
        steps: At most.
        seconds: At most, once there are enough steps.
        clock: Returns seconds.
    """
    if steps <= UNUSUAL or seconds <= 0:
        return None
    training = replace(ready.training, steps=steps, minutes=None)
    learner = make_learner(copy.deepcopy(ready.learner.network), training)
    dress(learner, training, here)
    draws, times, begun = Draws(ready.seed).named("foretold"), [], clock()
    for report in train(learner, ready.objective, feed, training, draws=draws, engine=here, gradient=ready.gradient):
        report.loss.item()  # until the device is done
        now = clock()
        times.append(now - begun)
        begun = now
        # What is compiled is not lost: training finds it again. So only other steps count.
        counted = times[UNUSUAL:] if training.compile else times
        if len(times) > UNUSUAL and here.agree(sum(counted)) > seconds:
            break
    usual = times[UNUSUAL:]
    return sum(usual) / len(usual)


def rounded(number: float) -> int:
    """Return a number with two digits that mean something."""
    return max(int(float(f"{number:.2g}")), 1)
