"""Estimate the duration of training and report from a few trial steps."""

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from feller.app.reporter import in_words
from feller.app.workflows.fitting.training_job import Prepared
from feller.app.workflows.reporting.comparison import number_shown
from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.images.labelled import plain
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.tables.mixed import as_table
from feller.evaluation.flow import Measuring, flow_quality
from feller.evaluation.judge import train_judge
from feller.evaluation.quality import quality
from feller.models.model import Model
from feller.models.spec import Description
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


Clock = Callable[[], float]
"""Returns seconds."""
PACED = ("process", "rows")
"""Families whose samples come in parts, so that a trial may be stopped on the way."""
PARTS = 3
"""Of the work: drawing samples, judging them, measuring the model. Each may be tried for so much of the time."""
LITTLE, MORE = 1 / 32, 1 / 8
"""Shares of the data that are judged to find out how the time grows with their number."""
MEASURED = 0.1
"""Share of the steps by which the model is measured."""
FAILURES = (InputError, UsageError, RuntimeError, ValueError, ZeroDivisionError)
"""What may become of weights that have learned nothing, or of few data; the report itself says what is wrong."""


class Enough(Exception):
    """The pace of some work is known; it is left as it is."""


@dataclass(frozen=True, eq=False)
class Reporting:
    """What a report will have to do."""

    description: Description
    train: Dataset
    held_out: Dataset
    draws: Draws

    def seconds(self, network: nn.Module, here: Engine, limit: float, clock: Clock = time.perf_counter) -> float | None:
        """Return how long it takes, about; None where its parts cannot be tried. Writing the page is left out.

        Args:
            network: Which is trained; it stays as it is.
            here: Device and processes, each of which tries it by itself.
            limit: Seconds that the trial may take, about; two pieces of each part are done in any case.
            clock: Returns seconds.
        """
        about, train = self.description, self.train.sampled()
        if not _can_stop(about):
            return None
        # Weights that have learned nothing take as long as others, as long as the number of calls is fixed.
        model, each = Model(about, copy.deepcopy(network).eval()), limit / PARTS
        n, alone = number_shown(train), here.alone()
        n = -(-n // here.ranks)
        try:
            drawing = paced(lambda tell: model.sample(n, draws=self.draws, tell=tell), each, clock)
            judging = self._judging(alone, n * here.ranks, each, clock)
            begun = clock()
            flow_quality(model, self.held_out, Measuring(draws=self.draws, ranks=alone, share=MEASURED))
        except FAILURES:
            return None
        return drawing + judging + (clock() - begun) / MEASURED / here.ranks

    def _judging(self, alone: Engine, n: int, limit: float, clock: Clock) -> float:
        """Return how long samples are looked at: of pictures the training of their judge, of others all of it."""
        train, held_out = (as_table(plain(data)) for data in (self.train.sampled(), self.held_out))
        if isinstance(train.modality, Images):
            return paced(lambda tell: train_judge(train, held_out, self.draws, alone, tell), limit, clock)

        def judged(share: float) -> float:
            begun = clock()
            learned, unseen = _first(train, share), _first(held_out, share)
            quality(_first(train, share * n / len(train)), learned, unseen, self.draws, alone)
            return clock() - begun

        judged(LITTLE)  # the first time loads what is needed
        little = judged(LITTLE)
        if little > limit:
            return little / LITTLE
        slope = max(judged(MORE) - little, 0.0) / (MORE - LITTLE)
        return little + slope * (1 - LITTLE)


def _can_stop(about: Description) -> bool:
    """Tell whether samples are drawn in pieces."""
    return about.family.name in PACED and not isinstance(about.modality, Speech)


def _first(data: Dataset, share: float) -> Dataset:
    """Return some examples from all over the data."""
    number = min(len(data), max(2, round(share * len(data))))
    return data.subset(torch.arange(number) * len(data) // max(number, 1))


def paced(work: Callable[[Callable[[float], None]], Any], limit: float, clock: Clock) -> float:
    """Return how long some work takes as a whole, by the pace of its beginning.

    Args:
        work: Tells which share of it is done, from time to time.
        limit: Seconds after which it is stopped, once two shares were told; the first, which is slower, is left out.
        clock: Returns seconds.
    """
    told, begun = list[tuple[float, float]](), clock()

    def hear(share: float) -> None:
        told.append((share, clock()))
        if len(told) > 1 and told[-1][1] - begun > limit:
            raise Enough

    with contextlib.suppress(Enough):
        work(hear)
    (first, early), (last, late) = told[0], told[-1]
    return (late - early) / (last - first) if last > first else late - begun
