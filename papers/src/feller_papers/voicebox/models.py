"""The models that the claims are about, each trained once for each seed, side by side."""

import functools
import itertools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.models.infilling import infill_durations
from feller.networks.audio.frame_infiller import FrameInfiller, FrameInfillerNetwork
from feller.networks.blocks.time_conditioning import NoTimeConditioning
from feller.paths.affine import Affine
from feller.paths.predictions import NoisePrediction
from feller.paths.schedules import VP, LinearSigmaMin
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Objective
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import AllFrames, Infilling
from feller.training.objectives.span_masks import SpanMask
from feller.training.optimizer import TrainConfig
from feller_papers.voicebox.chains import Rows, feed, joined
from feller_papers.voicebox.digits import MEL, Digits, read_digits
from feller_papers.voicebox.judges import Judge, Judges, Listener, train_judges
from feller_papers.voicebox.setting import Setting

T = TypeVar("T")
Weights = dict[str, np.ndarray]
SPACE = Euclidean((1, MEL.n_mels))
FRAMES = {
    "flow": Infilling(Affine(LinearSigmaMin(1e-5)), SPACE),
    "regression": Infilling(None, SPACE),
    "everywhere": Infilling(Affine(LinearSigmaMin(1e-5)), SPACE, loss_mask=AllFrames()),
    "diffusion": Infilling(Affine(VP()), SPACE),
    "score": Infilling(Affine(VP(), NoisePrediction()), SPACE),
}
"""Models of frames: flow matching with the linear path, and what it is compared with."""
PATHS = {"flow": "linear path", "diffusion": "diffusion path", "score": "score matching"}
"""Those with another path, as people call it."""
LENGTHS = {
    "at once": DurationInfilling.deterministic(Euclidean((1, 1))),
    "drawn": DurationInfilling.stochastic(Euclidean((1, 1))),
    "alone": DurationInfilling.deterministic(Euclidean((1, 1)), SpanMask(full_mask_prob=1.0)),
}
"""Models of durations: regression, flow matching, and regression that is told no duration."""
LONG, JUDGES = "long", "judges"
"""The usual model: `flow`, trained on; and who listens."""
TRAINING = TrainConfig(lr=2e-3, warmup=200, lr_decay_fraction=0.0, grad_clip_norm=0.5, ema_decay=0.999)
DECAY = 0.5
"""Last share of the training of the usual model over which its rate falls."""
LAST_LENGTHS = 0.5
"""The same for models of durations."""


@dataclass(frozen=True, eq=False)
class Trained:
    """All that was trained from one seed."""

    setting: Setting
    seed: int
    weights: dict[str, Weights]

    @property
    def digits(self) -> Digits:
        """The data."""
        return digits(self.setting)

    @property
    def draws(self) -> Rng:
        """The source of all randomness."""
        return Rng(self.seed)

    def network(self, kind: str) -> FrameInfillerNetwork:
        """Return a network."""
        return cast(FrameInfillerNetwork, _loaded(_built(self.setting, self.seed, kind), self.weights[kind]))

    @functools.cached_property
    def judges(self) -> Judges:
        """Who listens."""
        digit, speaker = (Listener(MEL.n_mels, n) for n in (10, len(self.digits.speakers)))
        both = nn.ModuleDict({"digit": digit, "speaker": speaker})
        _loaded(both, self.weights[JUDGES])
        return Judges(Judge(digit), Judge(speaker))

    def lasting(
        self, kind: str, rows: Rows, kept: Bool[Tensor, "b m"], draws: Rng, calls: int = 8
    ) -> Int64[Tensor, "b m"]:
        """Return durations by a model of them, of which those that are kept stay."""
        return infill_durations(
            self.network(kind),
            scaled(kind, self.digits),
            rows.duration,
            kept,
            rows.phone,
            rng=draws,
            valid=rows.real,
            sampling=SamplerConfig(nfe=calls),
        )


def scaled(kind: str, it: Digits) -> DurationInfilling:
    """Return how a model learns durations, standardised by those of all clips."""
    rows = joined([(clip,) for clip in it.train])
    return LENGTHS[kind].with_statistics_of(rows.duration[rows.real])


@functools.cache
def digits(setting: Setting) -> Digits:
    """Return the data.

    Raises:
        InputError: If they are not there.
    """
    if setting.folder is None:
        raise InputError(
            expected="spoken digits in speech/fsdd of the larger data", remedy="Name their folder with --data"
        )
    return read_digits(setting.folder, setting.takes)


def measured(setting: Setting, measure: Callable[[Trained], T]) -> list[T]:
    """Return what is measured for each seed, side by side; `measure` is a function of a module."""
    trained = _all(setting)
    return list(trained_map(setting, measure, trained))


def trained_map(setting: Setting, measure: Callable[[Trained], T], trained: list[Trained]) -> list[T]:
    """Apply a function to what was trained, in processes of their own if there are any."""
    if setting.workers == 1:
        return [measure(one) for one in trained]
    return list(_pool(setting.workers).map(measure, trained))


@functools.cache
def _pool(workers: int | None) -> Executor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))


@functools.cache
def _all(setting: Setting) -> list[Trained]:
    """Train all models of all seeds, the longest first; what they are depends on seeds alone."""
    every = (LONG, *FRAMES, *LENGTHS, JUDGES)
    wanted = setting.kinds or every
    jobs = [kind for kind in every if kind in wanted and (kind, LONG in wanted) != ("flow", True)]
    pairs = [(kind, seed) for kind in jobs for seed in setting.seeds]
    if setting.workers == 1:
        found = [_trained(setting, kind, seed) for kind, seed in pairs]
    else:
        kinds, seeds = zip(*pairs, strict=True)
        found = list(_pool(setting.workers).map(_trained, itertools.repeat(setting), kinds, seeds))
    return [
        Trained(
            setting,
            seed,
            {name: w for (_, s), each in zip(pairs, found, strict=True) if s == seed for name, w in each.items()},
        )
        for seed in setting.seeds
    ]


def _trained(setting: Setting, kind: str, seed: int) -> dict[str, Weights]:
    """Train one kind; the usual model also as it was when others ended."""
    it = digits(setting)
    if kind == JUDGES:
        judges = train_judges(it, setting.judge, Rng(seed).fold_in("judges"))
        both = nn.ModuleDict({"digit": judges.digit.network, "speaker": judges.speaker.network})
        return {kind: _plain(both)}
    if kind in LENGTHS:
        rule = scaled(kind, it)
        training = replace(
            TRAINING, batch_size=4 * setting.batch, steps=setting.lengths, lr_decay_fraction=LAST_LENGTHS
        )
        return {kind: _fitted(setting, kind, rule, training, seed, Rows.durations)[setting.lengths]}
    training = replace(TRAINING, batch_size=setting.batch, steps=setting.short)
    if kind == LONG:
        both_steps = replace(training, steps=setting.steps, lr_decay_fraction=DECAY)
        found = _fitted(setting, kind, FRAMES["flow"], both_steps, seed, Rows.batch, setting.short)
        return {LONG: found[setting.steps], "flow": found[setting.short]}
    return {kind: _fitted(setting, kind, FRAMES[kind], training, seed, Rows.batch)[setting.short]}


def _fitted(
    setting: Setting,
    kind: str,
    rule: Objective,
    training: TrainConfig,
    seed: int,
    batch: Callable[[Rows], dict],
    between: int = 0,
) -> dict[int, Weights]:
    """Train a network, and return its averaged weights by the step: the last, and one between if it is asked for."""
    network, draws = _built(setting, seed, kind), Rng(seed)
    learner = make_train_state(network, training)
    batches = feed(digits(setting).train, training.batch_size, draws.fold_in("chains"), batch)
    found = {}
    for report in train(learner, rule, batches, training, rng=draws, engine=get_engine()):
        if report.step in (between, training.steps):
            found[report.step] = {name: value.numpy().copy() for name, value in learner.ema_weights().items()}
    return found


def _built(setting: Setting, seed: int, kind: str) -> nn.Module:
    """Make a network with new weights, which are the same for all kinds that have the same."""
    settings: FrameInfiller = setting.small if kind in LENGTHS else setting.network
    once = kind in ("regression", "at once", "alone")
    settings = replace(settings, time_conditioning=NoTimeConditioning()) if once else settings
    shape = (1, 1 if kind in LENGTHS else MEL.n_mels)
    return settings.build(shape, {"phone": len(digits(setting).inventory)}, Rng(seed).fold_in("network"))


def _loaded(network: nn.Module, weights: Weights) -> nn.Module:
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return network.eval().requires_grad_(False)


def _plain(network: nn.Module) -> Weights:
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}
