"""What the claims about characters are tested with: windows of a corpus, small transformers, and bits per character."""

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
from feller_papers.kinetic_optimal.pictures import Change, as_it_is
from feller_papers.setting import file_of, fit_recipe

MISSING = "needs text/text8_style in the folder of --data"
WINDOW = 64
HELD_OUT = 149_952
"""Characters of the test part."""
SOME = 256
"""Windows that go through a network together."""
RECIPES = {"mask": text, "uniform": text_uniform}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Windows to learn from, and others that do not overlap."""

    name: str
    train: Dataset
    test: Int64[Tensor, "n length"]
    standard: bool
    """Whether it is the one that thresholds were set on."""


@functools.cache
def corpus(folder: pathlib.Path | None, size: int | None = WINDOW) -> Corpus:
    """Return the text of the larger data, or else that of the package."""
    train, test = (file_of(folder, "text", "text8_style", f"{part}.txt") for part in ("train", "test"))
    if train is None or test is None:
        whole = shakespeare_text("test").values[0]
        return _cut("tiny Shakespeare", read("example:shakespeare", longest=size), whole, standard=False)
    return _cut("text8_style, which is not text8", read(str(train), longest=size), test.read_text(), standard=True)


def _cut(name: str, train: Dataset, test: str, *, standard: bool) -> Corpus:
    if not isinstance(train.modality, Text):
        raise TypeError(f"expected text, got {type(train.modality).__name__}")
    length = train.modality.length
    whole = torch.tensor(train.modality.vocabulary.encode(test[: HELD_OUT // length * length]))
    return Corpus(name, train, whole[: len(whole) // length * length].view(-1, length), standard)


@functools.cache
def fitted(texts: Corpus, kind: str, steps: int, seed: int) -> Model:
    """Return a transformer of 2 layers that was trained from masked or from wrong characters."""
    recipe = RECIPES[kind](texts.train, "small")
    if not isinstance(recipe.architecture, TextDiT):
        raise TypeError(f"expected a TextTransformer, got {type(recipe.architecture).__name__}")
    architecture = replace(recipe.architecture, width=96, depth=2, heads=3)
    training = replace(recipe.train, batch_size=64, lr=3e-3)
    return fit_recipe(replace(recipe, architecture=architecture, train=training), texts.train, steps, seed)


@dataclass(frozen=True)
class Bits:
    """A mean over windows, in bits per character."""

    mean: float
    error: float
    """Standard error of the evaluation, not over training seeds."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.error:.3f})"


def bits(nats: Tensor, length: int) -> Bits:
    """Return bits per character of windows that take so many nats each."""
    each = nats / (length * math.log(2))
    return Bits(each.mean().item(), each.std().item() / math.sqrt(len(each)))


def bound(
    model: Model,
    test: Int64[Tensor, "n length"],
    rates: ELBO,
    times: int,
    change: Change = as_it_is,
) -> Bits:
    """Return the bound on held-out windows, of the model or of what it is changed to."""
    space = model.spec.space
    path, network = change(model.spec.path, model.network)
    parts = zip(range(0, len(test), SOME), test.split(SOME), strict=True)
    found = [
        estimate_elbo(path, space, network, part, {}, Rng(0, first), elbo=rates, times=times).nats
        for first, part in parts
    ]
    return bits(torch.cat(found), test.shape[1])
