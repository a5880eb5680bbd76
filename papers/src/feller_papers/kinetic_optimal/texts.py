"""Text corpora, small transformers and bits per character."""

import functools
import math
import pathlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.examples.loaders import shakespeare_text
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.text.modality import Text
from feller.models.families.elbo import ELBO, estimate_elbo
from feller.models.model import Model
from feller.models.recipes.text import text, text_uniform
from feller.networks.sequence.text_dit import TextDiT
from feller_papers.kinetic_optimal.pictures import PathTransform, identity
from feller_papers.setting import file_of, fit_recipe

MISSING = "needs text/text8_style in the folder of --data"
WINDOW_LENGTH = 64
NUM_TEST_CHARACTERS = 149_952
"""Number of test characters."""
BATCH_SIZE = 256
"""Batch size of the evaluation."""
RECIPES = {"mask": text, "uniform": text_uniform}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training windows, and test windows without overlap."""

    name: str
    train: Dataset
    test: Int64[Tensor, "n length"]
    is_text8: bool
    """True for text8_style, on which the thresholds are defined."""


@functools.cache
def corpus(folder: pathlib.Path | None, size: int | None = WINDOW_LENGTH) -> Corpus:
    """Return text8_style if its folder is given, else the text of the package."""
    train, test = (file_of(folder, "text", "text8_style", f"{part}.txt") for part in ("train", "test"))
    if train is None or test is None:
        encoded = shakespeare_text("test").values[0]
        return _cut("tiny Shakespeare", read("example:shakespeare", longest=size), encoded, is_text8=False)
    return _cut("text8_style, which is not text8", read(str(train), longest=size), test.read_text(), is_text8=True)


def _cut(name: str, train: Dataset, test: str, *, is_text8: bool) -> Corpus:
    if not isinstance(train.modality, Text):
        raise TypeError(f"expected text, got {type(train.modality).__name__}")
    length = train.modality.length
    encoded = torch.tensor(train.modality.vocabulary.encode(test[: NUM_TEST_CHARACTERS // length * length]))
    return Corpus(name, train, encoded[: len(encoded) // length * length].view(-1, length), is_text8)


@functools.cache
def train_model(texts: Corpus, path_name: str, steps: int, seed: int) -> Model:
    """Return a trained transformer of 2 layers, with a mask or a uniform source."""
    recipe = RECIPES[path_name](texts.train, "small")
    if not isinstance(recipe.architecture, TextDiT):
        raise TypeError(f"expected a TextTransformer, got {type(recipe.architecture).__name__}")
    architecture = replace(recipe.architecture, width=96, depth=2, heads=3)
    training = replace(recipe.train, batch_size=64, lr=3e-3)
    return fit_recipe(replace(recipe, architecture=architecture, train=training), texts.train, steps, seed)


@dataclass(frozen=True)
class Bits:
    """Mean bits per character over windows."""

    mean: float
    error: float
    """Standard error over windows, not over training seeds."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.error:.3f})"


def bits(nats: Tensor, length: int) -> Bits:
    """Return bits per character from the nats of windows."""
    bits_ = nats / (length * math.log(2))
    return Bits(bits_.mean().item(), bits_.std().item() / math.sqrt(len(bits_)))


def bound(
    model: Model,
    test: Int64[Tensor, "n length"],
    elbo: ELBO,
    times: int,
    transform: PathTransform = identity,
) -> Bits:
    """Return the likelihood bound on test windows, after an optional transform of the model."""
    space = model.spec.space
    path, network = transform(model.spec.path, model.network)
    parts = zip(range(0, len(test), BATCH_SIZE), test.split(BATCH_SIZE), strict=True)
    nats_ = [
        estimate_elbo(path, space, network, part, {}, Rng(0, start), elbo=elbo, times=times).nats
        for start, part in parts
    ]
    return bits(torch.cat(nats_), test.shape[1])
