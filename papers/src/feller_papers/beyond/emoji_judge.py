"""Judge of emoji: a classifier of pictures by name, trained on real pictures only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.evaluation.judge import ClassificationObjective
from feller.networks.image.classifier import ImageClassifier
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example
from feller.training.optimizer import TrainConfig
from feller_papers.cm3leon.judges import scaled

NUM_CANDIDATES = 10
"""Number of names among which the judge chooses."""
NOISE = 0.1
"""Standard deviation of the noise in training, of pixels in [-1, 1]: pictures from codes lack detail."""
BATCH_SIZE = 512
"""Pictures per forward pass."""
TRAINING = TrainConfig(batch_size=128, lr=3e-3, warmup=30, lr_decay_fraction=0.7, weight_decay=1e-2, ema_decay=0.0)


@dataclass(frozen=True)
class EmojiClassification(ClassificationObjective):
    """Classification of pictures with noise."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return noisy pictures."""
        x = batch["x_1"]
        return {"x": x + NOISE * rng.stream("noise").normal(x.shape), "answer": batch["given"]["label"]}


@dataclass(frozen=True, eq=False)
class EmojiJudge:
    """Classifier of pictures by name."""

    network: ImageClassifier

    @torch.no_grad()
    def choose(self, pictures: UInt8[Tensor, "n 3 h w"], candidates: Int64[Tensor, "n k"]) -> Int64[Tensor, " n"]:
        """Return the likeliest of the candidate names of each picture."""
        logits = torch.cat([self.network(scaled(part)) for part in pictures.split(BATCH_SIZE)])
        best = logits.gather(1, candidates).argmax(1, keepdim=True)
        return candidates.gather(1, best)[:, 0]

    def accuracy(
        self, pictures: UInt8[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"], candidates: Int64[Tensor, "n k"]
    ) -> float:
        """Return the fraction of pictures whose name is chosen."""
        return torch.eq(self.choose(pictures, candidates), labels).double().mean().item()


def train_emoji_judge(
    pictures: UInt8[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"], steps: int, rng: Rng
) -> EmojiJudge:
    """Return a judge, trained on real pictures with the index of their name as label."""
    _, channels, height, width = pictures.shape
    network = ImageClassifier((channels, height, width), int(labels.max()) + 1, rng)
    examples, training = {"x_1": scaled(pictures), "given": {"label": labels}}, replace(TRAINING, steps=steps)
    learner, feed = make_train_state(network, training), shuffled_loader(examples, training.batch_size, rng)
    for _ in train(learner, EmojiClassification(), feed, training, rng=rng, engine=get_engine()):
        pass
    return EmojiJudge(network.eval().requires_grad_(False))


def draw_candidates(labels: Sequence[int], num_names: int, rng: Rng) -> Int64[Tensor, "n k"]:
    """Return candidate names of each label: the label, and other names without replacement, all in ascending order.

    Raises:
        InputError: If there are fewer than two names.
    """
    if num_names < 2:
        raise InputError("two names or more", num_names)
    u = rng.stream("candidates").uniform((len(labels), num_names), torch.float64)
    u[torch.arange(len(labels)), torch.tensor(labels)] = -1.0  # the label comes first
    return u.argsort(1)[:, : min(NUM_CANDIDATES, num_names)].sort(1).values
