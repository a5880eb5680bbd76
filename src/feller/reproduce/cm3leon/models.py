"""The decoders that the claims are about, each trained once: the usual one, two of other sizes, and a tuned one."""

import copy
import functools
from dataclasses import replace

from feller.causal_masking import CausalMasking
from feller.data.batches import batches
from feller.data.modality import Dataset
from feller.draws import Draws
from feller.networks.plain_decoder import PlainDecoder, PlainTransformer
from feller.objective import Objective
from feller.reproduce.cm3leon.setting import Setting
from feller.reproduce.cm3leon.world import BY_WORDS, World, world
from feller.tokens.masked_spans import Masking
from feller.train.engine import engine
from feller.train.loop import make_learner, train
from feller.train.optimiser import Training

DOCUMENTS = 2
"""That stand in front, at most."""
PLAIN = Masking(spans=0.3)
"""What is hidden of pairs."""
LESSONS = Masking(spans=0.0)
"""What is hidden of lessons: answers, and now and then whole texts."""
TRAINING = Training(
    batch=32, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1, warmup=100, decay=0.5, clip=1.0, average=0.99
)


@functools.cache
def base(setting: Setting, seed: int, dial: int, documents: int = DOCUMENTS) -> PlainTransformer:
    """Return a decoder that has learned the pairs, behind none to so many others each."""
    it = world(setting, seed)
    about, draws = _sized(it, dial), Draws(seed).named("base", dial, documents)
    objective = _objective(it, PLAIN, documents).with_memory(it.library) if documents else _objective(it, PLAIN, 0)
    network = about.build((it.kind.context,), {}, draws)
    return _trained(network, objective, it.pairs, replace(TRAINING, batch=setting.batch, steps=setting.steps), draws)


@functools.cache
def tuned(setting: Setting, seed: int) -> PlainTransformer:
    """Return the usual decoder, which has gone on with lessons."""
    it, draws = world(setting, seed), Draws(seed).named("tuned")
    network = copy.deepcopy(base(setting, seed, setting.dial)).train().requires_grad_(True)
    training = replace(TRAINING, batch=setting.batch, steps=setting.tuned, lr=TRAINING.lr / 3)
    lessons = it.kind.evened(it.lessons, draws)
    return _trained(network, _objective(it, LESSONS, 0), lessons, training, draws)


def _sized(it: World, dial: int) -> PlainDecoder:
    return PlainDecoder.sized(it.kind.symbols, dial, it.kind.context)


def _objective(it: World, masking: Masking, documents: int) -> CausalMasking:
    """Return what is learned, where nothing stands in front yet."""
    kind = it.kind
    return CausalMasking(
        kind.space(), kind.symbols, kind.context, kind.context, masking, retrieval=BY_WORDS, documents=documents
    )


def _trained(
    network: PlainTransformer, objective: Objective, data: Dataset, training: Training, draws: Draws
) -> PlainTransformer:
    """Train a network; its weights are the average."""
    learner = make_learner(network, training)
    feed = batches(data, training.batch, draws)
    for _ in train(learner, objective, feed, training, draws=draws, engine=engine()):
        pass
    learner.average.copy_to(network)
    return network.eval().requires_grad_(False)
