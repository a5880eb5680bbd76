"""Judge: a small classifier of the ground, and of colour and shape at each position.

Its features give a distance, FD-cnn, which is not comparable with FID or with other networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.evaluation.image_metrics import fd_cnn
from feller.networks.network_config import seeded_init
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig
from feller_papers.scenes.drawing import SIDE_MULTIPLE, Scene
from feller_papers.scenes.shapes import COLOURS, SHAPES

FEATURES = 64
"""Feature dimension, of pictures and of each of the nine positions."""
TRAINING = TrainConfig(
    steps=1000, batch_size=128, lr=3e-3, warmup=30, lr_decay_fraction=0.6, weight_decay=1e-2, ema_decay=0.0
)
BATCH_SIZE = 512
"""Pictures per forward pass."""


class SceneClassifier(nn.Module):
    """Convolutions to the nine positions; position features predict things, their mean predicts the ground."""

    def __init__(self, side: int) -> None:
        super().__init__()
        step = side // SIDE_MULTIPLE
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(3, 24, step + 2, step, padding=1),
                nn.Conv2d(24, 48, 3, 2, padding=1),
                nn.Conv2d(48, 64, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in (24, 48, 64))
        self.places = nn.Conv2d(64, FEATURES, 4, 2)
        self.ground = nn.Linear(FEATURES, len(COLOURS))
        self.colour = nn.Linear(FEATURES, len(COLOURS) + 1)
        self.shape = nn.Linear(FEATURES, len(SHAPES) + 1)

    def embed(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 9 f"]:
        """Return the features of the positions."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return F.silu(self.places(x)).flatten(2).movedim(2, 1)

    def forward(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b colours"], Float[Tensor, "b 9 c"], Float[Tensor, "b 9 s"]]:
        """Return logits of the ground, and of colour and shape at each position; class 0 is empty."""
        features = self.embed(x)
        return self.ground(features.mean(1)), self.colour(features), self.shape(features)


@dataclass(frozen=True)
class SceneClassification(Objective):
    """Classification of the attributes of scenes, with noise augmentation."""

    noise: float = 0.05
    """Standard deviation."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return noisy pictures."""
        x = batch["x_1"]
        return {"x": x + self.noise * rng.stream("noise").normal(x.shape), **batch["given"]}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the sum of the cross-entropies of the ground and of all positions."""
        ground, colour, shape = network(example["x"])
        return (
            F.cross_entropy(ground, example["ground"], reduction="none")
            + F.cross_entropy(colour.movedim(2, 1), example["colour"], reduction="none").sum(1)
            + F.cross_entropy(shape.movedim(2, 1), example["shape"], reduction="none").sum(1)
        )


@dataclass(frozen=True, eq=False)
class SceneJudge:
    """Scene classifier, trained on real scenes."""

    network: SceneClassifier

    @torch.no_grad()
    def features(self, pictures: UInt8[Tensor, "n 3 h w"]) -> Float64[Tensor, "n f"]:
        """Return the features of each picture, averaged over positions."""
        return torch.cat([self.network.embed(scaled(part)).mean(1) for part in pictures.split(BATCH_SIZE)]).double()

    def distance(self, pictures: UInt8[Tensor, "n 3 h w"], real: UInt8[Tensor, "m 3 h w"]) -> float:
        """Return FD-cnn: 100 times the Fréchet distance of features, in units of the variance of the real features.

        Raises:
            InputError: If either set is smaller than two, or all real pictures are equal.
        """
        distance = fd_cnn(self.features(pictures), self.features(real))
        if distance is None:
            raise InputError("two sets of different pictures", f"{len(pictures)} and {len(real)}")
        return distance

    @torch.no_grad()
    def accuracy(self, pictures: UInt8[Tensor, "n 3 h w"], scenes: Sequence[Scene]) -> dict[str, float]:
        """Return the shares of pictures with correct ground, all colours, and all shapes."""
        labels, hits = scene_labels(scenes), {"ground": 0, "colour": 0, "shape": 0}
        for rows in torch.arange(len(pictures)).split(BATCH_SIZE):
            for name, logits in zip(hits, self.network(scaled(pictures[rows])), strict=True):
                correct = torch.eq(logits.argmax(-1), labels[name][rows])
                hits[name] += int(correct.reshape(len(rows), -1).all(1).sum())
        return {name: count / len(pictures) for name, count in hits.items()}


def train_scene_judge(
    pictures: UInt8[Tensor, "n 3 h w"], scenes: Sequence[Scene], rng: Rng, training: TrainConfig = TRAINING
) -> SceneJudge:
    """Return a judge, trained on real scenes."""
    with seeded_init(rng):
        network = SceneClassifier(pictures.shape[3])
    examples = {"x_1": scaled(pictures), "given": scene_labels(scenes)}
    learner, feed = make_train_state(network, training), shuffled_loader(examples, training.batch_size, rng)
    for _ in train(learner, SceneClassification(), feed, training, rng=rng, engine=get_engine()):
        pass
    return SceneJudge(network.eval().requires_grad_(False))


def scaled(pictures: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Return levels scaled to [-1, 1]."""
    return pictures.float() / 127.5 - 1


def scene_labels(scenes: Sequence[Scene]) -> dict[str, Int64[Tensor, " n *places"]]:
    """Return class indices of the ground, and of colour and shape at each position; 0 is empty."""
    colours, shapes = list(COLOURS), list(SHAPES)
    colour, shape = (torch.zeros(len(scenes), 9, dtype=torch.long) for _ in range(2))
    for i, scene in enumerate(scenes):
        for thing in scene.things:
            place = 3 * thing.cell[0] + thing.cell[1]
            colour[i, place] = 1 + colours.index(thing.colour)
            shape[i, place] = 1 + shapes.index(thing.shape)
    ground = torch.tensor([colours.index(scene.ground) for scene in scenes])
    return {"ground": ground, "colour": colour, "shape": shape}


def unique_share(pictures: UInt8[Tensor, "n 3 h w"]) -> float:
    """Return the share of unique pictures.

    Raises:
        InputError: If there are no pictures.
    """
    if not len(pictures):
        raise InputError("pictures whose diversity can be told", "none")
    return len(pictures.flatten(1).unique(dim=0)) / len(pictures)
