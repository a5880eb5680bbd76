"""What the claims about pictures are tested with: one network for an 8 x 8 digit and its label, and samples of it."""

import functools
from dataclasses import replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import Rng
from feller.paths import JumpPath, LatticeLevels, Mixture, ProductPath
from feller.paths.time_distributions import LeafTimes
from feller.spaces import Euclidean, MaskSource, Tokens
from feller.spaces import Product as ProductSpace
from feller.training.losses import CrossEntropy, PerLeafLoss
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller_papers.generator_matching.fitted import Fitted, fit
from feller_papers.generator_matching.labelled import Labelled
from feller_papers.generator_matching.setting import Setting, Way
from feller_papers.pictures import Pictures, digits

LEVELS = LatticeLevels(-1.0, 1.0, 17)
TRAINING = TrainConfig(batch_size=256, lr=2e-3, weight_decay=1e-2, lr_decay_fraction=1.0, ema_decay=0.995)
LABEL = 0.05
"""Weight of the label's cross-entropy beside the mean over pixels."""


def encode(values: UInt8[Tensor, "n 1 8 8"]) -> Float[Tensor, "n 1 8 8"]:
    """Turn levels into numbers."""
    return LEVELS.centres.float()[values.long()]


def decode(x: Float[Tensor, "n 1 8 8"]) -> UInt8[Tensor, "n 1 8 8"]:
    """Return the nearest levels."""
    return LEVELS.target(x).to(torch.uint8)


@functools.cache
def fitted(pictures: Pictures, seed: int) -> Fitted:
    """Return a network of the joint law: in 2 of 5 examples the label is given, in 3 of 10 each leaf has its time."""
    classes = len(pictures.data.modality.conditions["label"])
    objective = FlowMatching(
        ProductPath({"image": JumpPath(endpoint_support=LEVELS), "label": Mixture(source=MaskSource())}),
        ProductSpace({"image": Euclidean((1, 8, 8)), "label": Tokens(classes, (), MaskSource())}),
        PerLeafLoss({"image": CrossEntropy(), "label": CrossEntropy()}, weights={"label": LABEL}),
        leaf_times=LeafTimes(observed_prob=0.4, independent_prob=0.3, conditionable=("label",)),
    )
    x_1 = {"image": encode(pictures.data.values), "label": pictures.data.given["label"]}
    training = replace(TRAINING, steps=pictures.steps)
    return fit(objective, Labelled(classes, LEVELS.num_levels), x_1, training, seed)


def labels(pictures: Pictures) -> Int64[Tensor, " n"]:
    """Return the labels of the data, as many as there are samples in a set."""
    known = pictures.data.given["label"]
    return known[torch.arange(pictures.count) % len(known)]


@functools.cache
def sampled(setting: Setting, way: Way, calls: int, seed: int) -> tuple[float, float]:
    """Return the FD-cnn of pictures with a given label, and the share that the judge sees as it."""
    pictures = digits(setting.digits)
    found = drawn(pictures, way, calls, seed, {"label": labels(pictures)})
    values = decode(found["image"])
    return pictures.judge.distance(values), pictures.judge.agrees(values, found["label"])


def drawn(pictures: Pictures, way: Way, calls: int, seed: int, fixed: dict[str, Tensor]) -> State:
    """Return pictures and labels, of which either may be fixed."""
    return fitted(pictures, seed).samples(way, calls, pictures.count, Rng(seed).fold_in("samples"), fixed)
