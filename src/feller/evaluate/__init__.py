"""How good samples are, beside real data."""

from feller.evaluate.image import image_quality
from feller.evaluate.judge import Judge, load_judge, save_judge, train_judge
from feller.evaluate.points import points_quality
from feller.evaluate.quality import EXPLAIN, Quality, quality
from feller.evaluate.two_sample import energy_distance, frechet, sliced_wasserstein

__all__ = [
    "EXPLAIN",
    "Judge",
    "Quality",
    "energy_distance",
    "frechet",
    "image_quality",
    "load_judge",
    "points_quality",
    "quality",
    "save_judge",
    "sliced_wasserstein",
    "train_judge",
]
