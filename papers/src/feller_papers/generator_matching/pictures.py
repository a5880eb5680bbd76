"""Joint model of an 8 x 8 digit and its label, and sample metrics."""

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
from feller_papers.generator_matching.fitted import TrainedProcess, fit
from feller_papers.generator_matching.labelled import LabelledMLP
from feller_papers.generator_matching.setting import Sampler, Setting
from feller_papers.pictures import Pictures, digits

LEVELS = LatticeLevels(-1.0, 1.0, 17)
TRAINING = TrainConfig(batch_size=256, lr=2e-3, weight_decay=1e-2, lr_decay_fraction=1.0, ema_decay=0.995)
LABEL = 0.05
"""Weight of the label loss relative to the mean pixel loss."""


def encode(values: UInt8[Tensor, "n 1 8 8"]) -> Float[Tensor, "n 1 8 8"]:
    """Return pixels in [-1, 1]."""
    return LEVELS.centres.float()[values.long()]


def decode(x: Float[Tensor, "n 1 8 8"]) -> UInt8[Tensor, "n 1 8 8"]:
    """Return the nearest levels."""
    return LEVELS.target(x).to(torch.uint8)


@functools.cache
def fitted(pictures: Pictures, seed: int) -> TrainedProcess:
    """Return a joint model; the label is given in 40 % of the examples, times are independent in 30 %."""
    classes = len(pictures.data.modality.conditions["label"])
    objective = FlowMatching(
        ProductPath({"image": JumpPath(endpoint_support=LEVELS), "label": Mixture(source=MaskSource())}),
        ProductSpace({"image": Euclidean((1, 8, 8)), "label": Tokens(classes, (), MaskSource())}),
        PerLeafLoss({"image": CrossEntropy(), "label": CrossEntropy()}, weights={"label": LABEL}),
        leaf_times=LeafTimes(observed_prob=0.4, independent_prob=0.3, conditionable=("label",)),
    )
    x_1 = {"image": encode(pictures.data.values), "label": pictures.data.given["label"]}
    training = replace(TRAINING, steps=pictures.steps)
    return fit(objective, LabelledMLP(classes, LEVELS.num_levels), x_1, training, seed)


def labels(pictures: Pictures) -> Int64[Tensor, " n"]:
    """Return as many labels of the data as there are samples in a set."""
    known = pictures.data.given["label"]
    return known[torch.arange(pictures.count) % len(known)]


@functools.cache
def sample_metrics(setting: Setting, sampler: Sampler, calls: int, seed: int) -> tuple[float, float]:
    """Return the FD-cnn of label-conditional images and their accuracy by the judge."""
    pictures = digits(setting.digits)
    found = draw_images(pictures, sampler, calls, seed, {"label": labels(pictures)})
    values = decode(found["image"])
    return pictures.judge.distance(values), pictures.judge.accuracy(values, found["label"])


def draw_images(pictures: Pictures, sampler: Sampler, calls: int, seed: int, fixed: dict[str, Tensor]) -> State:
    """Return sampled images and labels; either may be fixed."""
    return fitted(pictures, seed).samples(sampler, calls, pictures.count, Rng(seed).fold_in("samples"), fixed)
