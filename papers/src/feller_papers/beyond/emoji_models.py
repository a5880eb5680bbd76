"""Decoder of documents of emoji, trained once for each seed."""

import functools
from dataclasses import replace

from feller.core.rng import Rng
from feller.networks.sequence.gpt import GPT, GPTNetwork
from feller.networks.sequence.patch_positions import PlannedHoles
from feller.training.objective import TrainingContext
from feller_papers.beyond.emoji_setting import EmojiSetting
from feller_papers.beyond.emoji_world import emoji_data
from feller_papers.cm3leon.models import MAX_RETRIEVED, PAIR_MASKING, TRAINING, decoder_objective, fit_decoder

LEARNING_RATE = 4e-3


@functools.cache
def emoji_decoder(setting: EmojiSetting, seed: int) -> GPTNetwork:
    """Return a decoder of documents with up to two retrieved documents, and with true positions around holes."""
    data, rng = emoji_data(setting, seed), Rng(seed).fold_in("emoji decoder")
    modality = data.modality
    objective = decoder_objective(data, PAIR_MASKING, MAX_RETRIEVED).build(TrainingContext(data=data.pairs))
    config = GPT.from_size(modality.symbols, setting.size, modality.context)
    network = replace(config, hole_positions=PlannedHoles()).build((modality.context,), {}, rng)
    return fit_decoder(network, objective, data.pairs, replace(TRAINING, lr=LEARNING_RATE, steps=setting.steps), rng)
