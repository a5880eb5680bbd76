"""Decoders of the claims, each trained once: three sizes, without retrieval, and instruction-tuned."""

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
from feller_papers.cm3leon.asking import DocumentData
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import TEXT_RETRIEVER, ExperimentData, experiment_data

Weights = dict[str, np.ndarray]
MAX_RETRIEVED = 2
"""Largest number of retrieved documents."""
PAIR_MASKING = SpanMasking(span_prob=0.5, text_prob=0.25)
"""Masking of pairs."""
INSTRUCTION_MASKING = SpanMasking(span_prob=0.0)
"""Masking of instructions: answers, and sometimes whole texts."""
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
class ModelKey:
    """Identifier of a decoder."""

    seed: int
    dial: int
    documents: int = MAX_RETRIEVED
    """Largest number of retrieved documents in training."""
    tuned: bool = False
    """True for an instruction-tuned model."""


def base_model(setting: Setting, seed: int, dial: int, documents: int = MAX_RETRIEVED) -> GPTNetwork:
    """Return a decoder, trained on pairs with up to `documents` retrieved documents."""
    return _load(setting, ModelKey(seed, dial, documents))


def tuned_model(setting: Setting, seed: int) -> GPTNetwork:
    """Return the instruction-tuned decoder of the default size."""
    return _load(setting, ModelKey(seed, setting.dial, tuned=True))


@functools.cache
def _load(setting: Setting, key: ModelKey) -> GPTNetwork:
    """Return a decoder, trained in this process or in parallel with all others."""
    if setting.num_workers == 1:
        return _train(setting, key)
    data = experiment_data(setting, key.seed)
    network = _gpt_config(data, key.dial).build((data.modality.context,), {}, Rng(key.seed))
    network.load_state_dict({name: torch.from_numpy(values) for name, values in _train_all(setting)[key].items()})
    return network.eval().requires_grad_(False)


@functools.cache
def _train_all(setting: Setting) -> dict[ModelKey, Weights]:
    """Return the weights of all decoders, trained in parallel; results depend only on the seed."""
    sizes = [[ModelKey(seed, dial)] for dial in reversed(setting.dials) for seed in setting.seeds]
    jobs = [keys if keys[0].dial != setting.dial else [*keys, replace(keys[0], tuned=True)] for keys in sizes]
    jobs += [[ModelKey(seed, setting.dial, documents=0)] for seed in setting.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(setting.num_workers, context, torch.set_num_threads, (1,)) as pool:
        weights_of_jobs = pool.map(_train_weights, itertools.repeat(setting), jobs)
        return {
            key: weights
            for job, job_weights in zip(jobs, weights_of_jobs, strict=True)
            for key, weights in zip(job, job_weights, strict=True)
        }


def _train_weights(setting: Setting, job: list[ModelKey]) -> list[Weights]:
    """Return the weights of decoders, trained sequentially."""
    trained = [_train(setting, key) for key in job]
    return [{name: values.numpy() for name, values in network.state_dict().items()} for network in trained]


@functools.cache
def _train(setting: Setting, key: ModelKey) -> GPTNetwork:
    """Return a decoder, trained in this process; instruction tuning starts from the base model."""
    data, seed, documents = experiment_data(setting, key.seed), key.seed, key.documents
    training = replace(TRAINING, batch_size=setting.batch_size, steps=setting.steps)
    if key.tuned:
        rng = Rng(seed).fold_in("tuned")
        network = copy.deepcopy(_train(setting, replace(key, tuned=False))).train().requires_grad_(True)
        training = replace(training, steps=setting.tuning_steps, lr=TRAINING.lr / 3)
        return fit_decoder(
            network,
            decoder_objective(data, INSTRUCTION_MASKING, 0),
            data.modality.for_training(data.instructions, rng),
            training,
            rng,
        )
    rng = Rng(seed).fold_in("base", key.dial, documents)
    objective = decoder_objective(data, PAIR_MASKING, documents).build(
        TrainingContext(data=data.pairs)
    )  # not the retrieval index: it has tail creatures
    network = _gpt_config(data, key.dial).build((data.modality.context,), {}, rng)
    return fit_decoder(network, objective, data.pairs, training, rng)


def _gpt_config(data: ExperimentData, dial: int) -> GPT:
    return GPT.from_size(data.modality.symbols, dial, data.modality.context)


def decoder_objective(data: DocumentData, masking: SpanMasking, documents: int) -> CausalMaskedLM:
    """Return the training objective, without its datastore."""
    modality = data.modality
    return CausalMaskedLM(
        modality.space(),
        modality.symbols,
        modality.context,
        modality.context,
        masking,
        retrieval=TEXT_RETRIEVER,
        max_retrieved=documents,
    )


def fit_decoder(
    network: GPTNetwork, objective: Objective, data: Dataset, training: TrainConfig, rng: Rng
) -> GPTNetwork:
    """Return the trained network with averaged weights."""
    learner = make_train_state(network, training)
    feed = batch_loader(data, training.batch_size, rng)
    for _ in train(learner, objective, feed, training, rng=rng, engine=get_engine()):
        pass
    learner.ema.copy_to(network)
    return network.eval().requires_grad_(False)
