"""Models of the claims, each trained once per seed, in parallel."""

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
from feller_papers.voicebox.chains import ChainBatch, concatenate_clips, make_batch_fn
from feller_papers.voicebox.digits import MEL, Digits, read_digits
from feller_papers.voicebox.judges import Classifier, Judge, Judges, train_judges
from feller_papers.voicebox.setting import Setting

T = TypeVar("T")
Weights = dict[str, np.ndarray]
SPACE = Euclidean((1, MEL.n_mels))
FRAME_MODELS = {
    "flow": Infilling(Affine(LinearSigmaMin(1e-5)), SPACE),
    "regression": Infilling(None, SPACE),
    "everywhere": Infilling(Affine(LinearSigmaMin(1e-5)), SPACE, loss_mask=AllFrames()),
    "diffusion": Infilling(Affine(VP()), SPACE),
    "score": Infilling(Affine(VP(), NoisePrediction()), SPACE),
}
"""Frame models: flow matching with the linear path, and baselines."""
PATHS = {"flow": "linear path", "diffusion": "diffusion path", "score": "score matching"}
"""Frame models of the path comparison, and their printed names."""
DURATION_MODELS = {
    "at once": DurationInfilling.deterministic(Euclidean((1, 1))),
    "drawn": DurationInfilling.stochastic(Euclidean((1, 1))),
    "alone": DurationInfilling.deterministic(Euclidean((1, 1)), SpanMask(full_mask_prob=1.0)),
}
"""Duration models: regression, flow matching, and regression without context durations."""
MAIN, JUDGES = "long", "judges"
"""Names of the main model, `flow` trained longer, and of the judges."""
TRAINING = TrainConfig(lr=2e-3, warmup=200, lr_decay_fraction=0.0, grad_clip_norm=0.5, ema_decay=0.999)
MAIN_DECAY = 0.5
"""Fraction of the main model's training with learning rate decay."""
DURATION_DECAY = 0.5
"""The same for duration models."""


@dataclass(frozen=True, eq=False)
class TrainedModels:
    """All models of one seed."""

    setting: Setting
    seed: int
    weights: dict[str, Weights]

    @property
    def digits(self) -> Digits:
        """Data set."""
        return load_digits(self.setting)

    @property
    def rng(self) -> Rng:
        """Source of randomness."""
        return Rng(self.seed)

    def network(self, model: str) -> FrameInfillerNetwork:
        """Return a trained network."""
        return cast(FrameInfillerNetwork, _load(_build(self.setting, self.seed, model), self.weights[model]))

    @functools.cached_property
    def judges(self) -> Judges:
        """Trained judges."""
        digit, speaker = (Classifier(MEL.n_mels, n) for n in (10, len(self.digits.speakers)))
        networks = nn.ModuleDict({"digit": digit, "speaker": speaker})
        _load(networks, self.weights[JUDGES])
        return Judges(Judge(digit), Judge(speaker))

    def sample_durations(
        self, model: str, rows: ChainBatch, context: Bool[Tensor, "b m"], rng: Rng, nfe: int = 8
    ) -> Int64[Tensor, "b m"]:
        """Return sampled durations; those of `context` are kept."""
        return infill_durations(
            self.network(model),
            duration_objective(model, self.digits),
            rows.duration,
            context,
            rows.phone,
            rng=rng,
            valid=rows.phone_valid,
            sampling=SamplerConfig(nfe=nfe),
        )


def duration_objective(model: str, digits: Digits) -> DurationInfilling:
    """Return the objective of a duration model, standardised by the training clips."""
    rows = concatenate_clips([(clip,) for clip in digits.train])
    return DURATION_MODELS[model].with_statistics_of(rows.duration[rows.phone_valid])


@functools.cache
def load_digits(setting: Setting) -> Digits:
    """Return the data set.

    Raises:
        InputError: If it is missing.
    """
    if setting.folder is None:
        raise InputError(
            expected="spoken digits in speech/fsdd of the larger data", remedy="Name their folder with --data"
        )
    return read_digits(setting.folder, setting.max_takes)


def evaluate_seeds(setting: Setting, evaluate: Callable[[TrainedModels], T]) -> list[T]:
    """Return the result of `evaluate` for each seed, computed in parallel; `evaluate` is a module-level function."""
    trained = _train_all(setting)
    return list(map_seeds(setting, evaluate, trained))


def map_seeds(setting: Setting, evaluate: Callable[[TrainedModels], T], trained: list[TrainedModels]) -> list[T]:
    """Return the result of a function for each seed, in worker processes if there are any."""
    if setting.num_workers == 1:
        return [evaluate(models) for models in trained]
    return list(_pool(setting.num_workers).map(evaluate, trained))


@functools.cache
def _pool(workers: int | None) -> Executor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))


@functools.cache
def _train_all(setting: Setting) -> list[TrainedModels]:
    """Return all models of all seeds, trained with the longest first; results depend only on the seed."""
    all_models = (MAIN, *FRAME_MODELS, *DURATION_MODELS, JUDGES)
    selected = setting.models or all_models
    jobs = [model for model in all_models if model in selected and (model, MAIN in selected) != ("flow", True)]
    pairs = [(model, seed) for model in jobs for seed in setting.seeds]
    if setting.num_workers == 1:
        results = [_train_model(setting, model, seed) for model, seed in pairs]
    else:
        model_names, seeds = zip(*pairs, strict=True)
        results = list(_pool(setting.num_workers).map(_train_model, itertools.repeat(setting), model_names, seeds))
    return [
        TrainedModels(
            setting,
            seed,
            {name: w for (_, s), each in zip(pairs, results, strict=True) if s == seed for name, w in each.items()},
        )
        for seed in setting.seeds
    ]


def _train_model(setting: Setting, model: str, seed: int) -> dict[str, Weights]:
    """Return the weights of one trained model; those of the main model also after `comparison_steps`."""
    digits = load_digits(setting)
    if model == JUDGES:
        judges = train_judges(digits, setting.judge_steps, Rng(seed).fold_in("judges"))
        networks = nn.ModuleDict({"digit": judges.digit.network, "speaker": judges.speaker.network})
        return {model: _to_numpy(networks)}
    if model in DURATION_MODELS:
        objective = duration_objective(model, digits)
        training = replace(
            TRAINING, batch_size=4 * setting.batch_size, steps=setting.duration_steps, lr_decay_fraction=DURATION_DECAY
        )
        return {
            model: _fit(setting, model, objective, training, seed, ChainBatch.duration_batch)[setting.duration_steps]
        }
    training = replace(TRAINING, batch_size=setting.batch_size, steps=setting.comparison_steps)
    if model == MAIN:
        main_training = replace(training, steps=setting.steps, lr_decay_fraction=MAIN_DECAY)
        results = _fit(
            setting, model, FRAME_MODELS["flow"], main_training, seed, ChainBatch.frame_batch, setting.comparison_steps
        )
        return {MAIN: results[setting.steps], "flow": results[setting.comparison_steps]}
    return {
        model: _fit(setting, model, FRAME_MODELS[model], training, seed, ChainBatch.frame_batch)[
            setting.comparison_steps
        ]
    }


def _fit(
    setting: Setting,
    model: str,
    objective: Objective,
    training: TrainConfig,
    seed: int,
    to_batch: Callable[[ChainBatch], dict],
    intermediate_step: int = 0,
) -> dict[int, Weights]:
    """Return averaged weights by step: the last, and `intermediate_step` if it is not 0."""
    network, rng = _build(setting, seed, model), Rng(seed)
    learner = make_train_state(network, training)
    batches = make_batch_fn(load_digits(setting).train, training.batch_size, rng.fold_in("chains"), to_batch)
    results = {}
    for report in train(learner, objective, batches, training, rng=rng, engine=get_engine()):
        if report.step in (intermediate_step, training.steps):
            results[report.step] = {name: value.numpy().copy() for name, value in learner.ema_weights().items()}
    return results


def _build(setting: Setting, seed: int, model: str) -> nn.Module:
    """Return a newly initialised network; the weights depend on the seed and the architecture."""
    config: FrameInfiller = setting.duration_network if model in DURATION_MODELS else setting.network
    deterministic = model in ("regression", "at once", "alone")
    config = replace(config, time_conditioning=NoTimeConditioning()) if deterministic else config
    shape = (1, 1 if model in DURATION_MODELS else MEL.n_mels)
    return config.build(shape, {"phone": len(load_digits(setting).inventory)}, Rng(seed).fold_in("network"))


def _load(network: nn.Module, weights: Weights) -> nn.Module:
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return network.eval().requires_grad_(False)


def _to_numpy(network: nn.Module) -> Weights:
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}
