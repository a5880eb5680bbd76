"""Who looks at 8 x 8 pictures of 17 levels: a small network whose distance, FD-cnn, means nothing to other judges."""

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
    """Three convolutions, 32 features, one logit per class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
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
        self.answer = nn.Linear(32, classes)

    def forward(self, x: Float[Tensor, "b 1 8 8"]) -> Float[Tensor, "b classes"]:
        """Return logits."""
        return self.answer(self.see(x))


@dataclass(frozen=True)
class Jittered(ClassificationObjective):
    """Tell the class of pictures whose levels are moved by up to half a level."""

    label_smoothing = 0.0

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw the noise."""
        x = batch["x_1"]
        return {"x": (x + rng.stream("noise").uniform(x.shape) - 0.5) / LEVELS, "answer": batch["given"]["label"]}


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of real pictures."""

    network: Classifier
    real: Float64[Tensor, "n 32"]
    """Features of all pictures that it was trained on."""

    @torch.no_grad()
    def features(self, values: UInt8[Tensor, "n 1 8 8"]) -> Float64[Tensor, "n 32"]:
        """Return what the answer is read from."""
        return self.network.see(values / LEVELS).double()

    def distance(self, values: UInt8[Tensor, "n 1 8 8"]) -> float:
        """Return FD-cnn: 100 times the Fréchet distance to real features, in units of their variance."""
        return fd_cnn(self.features(values), self.real) or 0.0

    @torch.no_grad()
    def agrees(self, values: UInt8[Tensor, "n 1 8 8"], labels: Int64[Tensor, " n"]) -> float:
        """Return the share of pictures that look like their label."""
        return torch.eq(self.network(values / LEVELS).argmax(1), labels).double().mean().item()


def train_judge(data: Dataset) -> Judge:
    """Train a judge on real pictures."""
    with seeded_init(Rng(SEED)):
        network = Classifier(len(data.modality.conditions["label"]))
    examples = {"x_1": data.values.float(), "given": data.given}
    learner, feed = make_train_state(network, TRAINING), shuffled_loader(examples, TRAINING.batch_size, Rng(SEED))
    for _ in train(learner, Jittered(), feed, TRAINING, rng=Rng(SEED), engine=get_engine()):
        pass
    network = network.eval().requires_grad_(False)
    return Judge(network, Judge(network, torch.empty(0, 32).double()).features(data.values))
