"""Decoder of documents of emoji, trained once for each seed."""

import functools
from dataclasses import replace

from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.networks.sequence.gpt import GPT, GPTNetwork
from feller.networks.sequence.patch_positions import PlannedHoles
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import TrainingContext
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.optimizer import TrainConfig
from feller_papers.beyond.emoji_setting import EmojiSetting
from feller_papers.beyond.emoji_world import emoji_data
from feller_papers.cm3leon.world import TEXT_RETRIEVER

MASKING = SpanMasking(span_prob=0.5, text_prob=0.25)
"""Masking of documents: spans in three eighths, all texts in a quarter."""
TRAINING = TrainConfig(
    batch_size=16,
    lr=4e-3,
    betas=(0.9, 0.95),
    weight_decay=0.1,
    warmup=100,
    lr_decay_fraction=0.5,
    grad_clip_norm=1.0,
    ema_decay=0.99,
)


@functools.cache
def emoji_decoder(setting: EmojiSetting, seed: int) -> GPTNetwork:
    """Return a decoder of documents with up to two retrieved documents, and with true positions around holes."""
    data, rng = emoji_data(setting, seed), Rng(seed).fold_in("emoji decoder")
    modality = data.modality
    objective = CausalMaskedLM(
        modality.space(), modality.symbols, modality.context, modality.context, MASKING, retrieval=TEXT_RETRIEVER
    ).build(TrainingContext(data=data.pairs))
    config = GPT.from_size(modality.symbols, setting.size, modality.context)
    network = replace(config, hole_positions=PlannedHoles()).build((modality.context,), {}, rng)
    training = replace(TRAINING, steps=setting.steps)
    learner = make_train_state(network, training)
    feed = batch_loader(data.pairs, training.batch_size, rng)
    for _ in train(learner, objective, feed, training, rng=rng, engine=get_engine()):
        pass
    learner.ema.copy_to(network)
    return network.eval().requires_grad_(False)
