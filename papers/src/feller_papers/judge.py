"""Judge network of 8 x 8 images with 17 levels; its distance, FD-cnn, is comparable only within one judge."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.data.modality import Dataset
from feller.evaluation.image_metrics import fd_cnn
from feller.evaluation.judge import ClassificationObjective
from feller.networks.network_config import seeded_init
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example
from feller.training.optimizer import TrainConfig

SEED = 7
TRAINING = TrainConfig(steps=1500, batch_size=128, lr=2e-3, warmup=0, lr_decay_fraction=1.0, ema_decay=0.0)
LEVELS = 16


class Classifier(nn.Module):
    """CNN with three convolutions and 32 features."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 32),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x: Float[Tensor, "b 1 8 8"]) -> Float[Tensor, "b classes"]:
        """Return class logits."""
        return self.head(self.backbone(x))


@dataclass(frozen=True)
class NoisyClassification(ClassificationObjective):
    """Classification of images with uniform noise of up to half a level."""

    label_smoothing = 0.0

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return a batch of noisy images."""
        x = batch["x_1"]
        return {"x": (x + rng.stream("noise").uniform(x.shape) - 0.5) / LEVELS, "answer": batch["given"]["label"]}


@dataclass(frozen=True, eq=False)
class Judge:
    """Classifier of real images."""

    network: Classifier
    real: Float64[Tensor, "n 32"]
    """Features of the training images."""

    @torch.no_grad()
    def features(self, values: UInt8[Tensor, "n 1 8 8"]) -> Float64[Tensor, "n 32"]:
        """Return the features of the last hidden layer."""
        return self.network.backbone(values / LEVELS).double()

    def distance(self, values: UInt8[Tensor, "n 1 8 8"]) -> float:
        """Return FD-cnn: 100 times the Fréchet distance to real features, in units of their variance."""
        return fd_cnn(self.features(values), self.real) or 0.0

    @torch.no_grad()
    def accuracy(self, values: UInt8[Tensor, "n 1 8 8"], labels: Int64[Tensor, " n"]) -> float:
        """Return the accuracy of labels by the classifier."""
        return torch.eq(self.network(values / LEVELS).argmax(1), labels).double().mean().item()


def train_judge(data: Dataset) -> Judge:
    """Return a judge trained on images."""
    with seeded_init(Rng(SEED)):
        network = Classifier(len(data.modality.conditions["label"]))
    examples = {"x_1": data.values.float(), "given": data.given}
    train_state, batches = (
        make_train_state(network, TRAINING),
        shuffled_loader(examples, TRAINING.batch_size, Rng(SEED)),
    )
    for _ in train(train_state, NoisyClassification(), batches, TRAINING, rng=Rng(SEED), engine=get_engine()):
        pass
    network = network.eval().requires_grad_(False)
    return Judge(network, Judge(network, torch.empty(0, 32).double()).features(data.values))
