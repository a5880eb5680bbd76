"""How long a report will take on this machine: each part of its work is begun, and stopped once its pace is known."""

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from feller.app.workflows.reporting.shown import number_shown
from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.images.labelled import plain
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.speech.speech_modality import Speech
from feller.data.tables.mixed import as_table
from feller.evaluation.flow import Measuring, flow_quality
from feller.evaluation.judge import train_judge
from feller.evaluation.quality import quality
from feller.models.model import Model
from feller.models.spec import Description
from feller.paths import AnyOrder, Autoregressive, Codes, Estimates, Graphical, Interleaved, Resynthesis
from feller.training.engine import Engine

Clock = Callable[[], float]
"""Returns seconds."""
WHOLE = (Autoregressive, Codes, Estimates, Graphical, Interleaved, Resynthesis)
"""Paths whose samples come at once, or that draw none: nothing could be stopped on the way."""
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
    whole = isinstance(about.path, WHOLE) and not isinstance(about.path, AnyOrder)
    return not whole and not isinstance(about.modality, Speech)


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
