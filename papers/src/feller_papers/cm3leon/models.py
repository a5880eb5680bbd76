"""The decoders that the claims are about, each trained once: the usual one, two of other sizes, and a tuned one."""

import copy
import functools
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.networks.sequence.gpt import GPT, GPTNetwork
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Objective, TrainingContext
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.optimizer import TrainConfig
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import BY_WORDS, World, world

Weights = dict[str, np.ndarray]
DOCUMENTS = 2
"""That stand in front, at most."""
PLAIN = SpanMasking(span_prob=0.5, text_prob=0.25)
"""What is hidden of pairs."""
LESSONS = SpanMasking(span_prob=0.0)
"""What is hidden of lessons: answers, and now and then whole texts."""
TRAINING = TrainConfig(
    batch_size=16,
    lr=5e-3,
    betas=(0.9, 0.95),
    weight_decay=0.1,
    warmup=100,
    lr_decay_fraction=0.5,
    grad_clip_norm=1.0,
    ema_decay=0.99,
)


@dataclass(frozen=True)
class Which:
    """One of the decoders."""

    seed: int
    dial: int
    documents: int = DOCUMENTS
    """That may stand in front of each in training."""
    tuned: bool = False
    """Whether it has gone on with lessons."""


def base(setting: Setting, seed: int, dial: int, documents: int = DOCUMENTS) -> GPTNetwork:
    """Return a decoder that has learned the pairs, behind none to so many others each."""
    return _decoder(setting, Which(seed, dial, documents))


def tuned(setting: Setting, seed: int) -> GPTNetwork:
    """Return the usual decoder, which has gone on with lessons."""
    return _decoder(setting, Which(seed, setting.dial, tuned=True))


@functools.cache
def _decoder(setting: Setting, which: Which) -> GPTNetwork:
    """Return a decoder, trained here or with all others side by side."""
    if setting.workers == 1:
        return _trained_here(setting, which)
    it = world(setting, which.seed)
    network = _sized(it, which.dial).build((it.kind.context,), {}, Rng(which.seed))
    network.load_state_dict({name: torch.from_numpy(values) for name, values in _all(setting)[which].items()})
    return network.eval().requires_grad_(False)


@functools.cache
def _all(setting: Setting) -> dict[Which, Weights]:
    """Train all decoders of all seeds, side by side, the longest ones first; what they are depends on seeds alone."""
    sizes = [[Which(seed, dial)] for dial in reversed(setting.dials) for seed in setting.seeds]
    jobs = [some if some[0].dial != setting.dial else [*some, replace(some[0], tuned=True)] for some in sizes]
    jobs += [[Which(seed, setting.dial, documents=0)] for seed in setting.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(setting.workers, context, torch.set_num_threads, (1,)) as pool:
        found = pool.map(_weights, itertools.repeat(setting), jobs)
        return {
            which: weights
            for job, each in zip(jobs, found, strict=True)
            for which, weights in zip(job, each, strict=True)
        }


def _weights(setting: Setting, job: list[Which]) -> list[Weights]:
    """Train some decoders one after the other."""
    trained = [_trained_here(setting, which) for which in job]
    return [{name: values.numpy() for name, values in network.state_dict().items()} for network in trained]


@functools.cache
def _trained_here(setting: Setting, which: Which) -> GPTNetwork:
    """Train a decoder in this process; one to be tuned begins with the other, trained here too."""
    it, seed, documents = world(setting, which.seed), which.seed, which.documents
    training = replace(TRAINING, batch_size=setting.batch, steps=setting.steps)
    if which.tuned:
        draws = Rng(seed).fold_in("tuned")
        network = copy.deepcopy(_trained_here(setting, replace(which, tuned=False))).train().requires_grad_(True)
        training = replace(training, steps=setting.tuned, lr=TRAINING.lr / 3)
        return _trained(network, _objective(it, LESSONS, 0), it.kind.for_training(it.lessons, draws), training, draws)
    draws = Rng(seed).fold_in("base", which.dial, documents)
    objective = _objective(it, PLAIN, documents).build(
        TrainingContext(data=it.pairs)
    )  # not the library: it shows creatures of the tail
    network = _sized(it, which.dial).build((it.kind.context,), {}, draws)
    return _trained(network, objective, it.pairs, training, draws)


def _sized(it: World, dial: int) -> GPT:
    return GPT.from_size(it.kind.symbols, dial, it.kind.context)


def _objective(it: World, masking: SpanMasking, documents: int) -> CausalMaskedLM:
    """Return what is learned, where nothing stands in front yet."""
    kind = it.kind
    return CausalMaskedLM(
        kind.space(), kind.symbols, kind.context, kind.context, masking, retrieval=BY_WORDS, max_retrieved=documents
    )


def _trained(network: GPTNetwork, objective: Objective, data: Dataset, training: TrainConfig, draws: Rng) -> GPTNetwork:
    """Train a network; its weights are the average."""
    learner = make_train_state(network, training)
    feed = batch_loader(data, training.batch_size, draws)
    for _ in train(learner, objective, feed, training, rng=draws, engine=get_engine()):
        pass
    learner.ema.copy_to(network)
    return network.eval().requires_grad_(False)
