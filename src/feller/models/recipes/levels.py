"""Pictures whose levels are symbols: hidden, wrong, or only near to what they should be."""

from collections.abc import Callable
from dataclasses import replace

from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsTokens
from feller.data.modality import Dataset
from feller.models.recipes.images import unet
from feller.models.recipes.recipe import Recipe, need
from feller.networks.architecture import Architecture
from feller.networks.sequence.token_mlp import Embedded, TokenMLP
from feller.paths import Cavity, Metric, Mixture, TokenPath
from feller.paths.discrete.token_distances import Levels
from feller.paths.schedules import GreatCircle
from feller.sampling.sampler_config import Sampling
from feller.spaces import MaskSource, Tokens, TokenSource, UniformSource
from feller.training.losses import CrossEntropy
from feller.training.objective import Matching
from feller.training.optimizer import Training

SMALL = 256
"""Numbers of a picture up to which a perceptron sees them all at once."""


def levels_mask(data: Dataset, size: str) -> Recipe:
    """Levels are hidden, and revealed a few at a time."""
    return _token_recipe(data, size, "levels-mask", MaskSource(), lambda count: Mixture(GreatCircle(), MaskSource()))


def levels_uniform(data: Dataset, size: str) -> Recipe:
    """Levels are wrong, and mended a few at a time."""
    source = UniformSource()

    def path(count: int) -> TokenPath:
        return Mixture(GreatCircle(1 / count), source, answer=Cavity())

    return _token_recipe(data, size, "levels-uniform", source, path)


def levels_metric(data: Dataset, size: str) -> Recipe:
    """Levels move to nearer ones: a gray that is a little wrong is likelier than one that is far off."""
    return _token_recipe(
        data, size, "levels-metric", UniformSource(), lambda count: Metric(Levels(count), answer=Cavity())
    )


def _token_recipe(data: Dataset, size: str, name: str, source: TokenSource, path: Callable[[int], TokenPath]) -> Recipe:
    modality = replace(need(data.modality, Images, name, "pictures"), code=AsTokens())
    count, small = modality.levels + 1, data.values[0].numel() <= SMALL
    masked = isinstance(source, MaskSource)
    architecture: Architecture
    if small:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        architecture = TokenMLP(count, masked=masked, width=width)
    else:
        inner, minutes = unet(modality, size), {"tiny": 2.0, "small": 20.0, "base": 240.0}[size]
        architecture = Embedded(inner, count, masked=masked, features=8)
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=Matching(path(count), Tokens(count, modality.shape, source), CrossEntropy()),
        train=Training(
            batch=256 if small else 64, lr=1.5e-3, weight_decay=1e-2, decay=0.9, average=0.995, minutes=minutes
        ),
        sampling=Sampling("euler", 64),
    )
