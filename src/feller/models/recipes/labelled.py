"""Pictures and their labels, drawn together, or one beside the other."""

from feller.core.errors import UsageError
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.images import images, unet
from feller.models.recipes.recipe import Recipe
from feller.networks.architecture import Architecture
from feller.networks.blocks.leaf_codecs import Numbers, Symbols
from feller.networks.image.image_label_net import Captioned
from feller.networks.mlp import Together
from feller.paths import Affine, Jump, Lattice, Mixture, Path, Product
from feller.paths.time_distributions import LeafTimes
from feller.sampling.sampler_config import Sampling
from feller.spaces import MaskSource
from feller.training.losses import CrossEntropy, Loss, PerLeaf, Squared
from feller.training.objective import Matching
from feller.training.optimizer import Training

SMALL = 256
"""Numbers of a picture up to which a perceptron sees them all at once, and tells the law of each."""
LABEL = 0.05
"""Weight of the label's loss, which is larger than that of a picture's numbers, and easier."""


def labelled(data: Dataset, size: str) -> Recipe:
    """The label is a token that is hidden and revealed; small pictures flow and jump, larger ones flow.

    In some examples the label or the picture is given, and in some each has a time of its own.

    Raises:
        UsageError: If the data are no pictures with labels.
    """
    pictures = data.modality.pictures if isinstance(data.modality, Labelled) else data.modality
    if not isinstance(pictures, Images) or not pictures.classes:
        raise UsageError("the recipe `image-label` needs pictures with labels; use --recipe auto")
    modality, classes = Labelled(pictures), len(pictures.classes)
    number = pictures.channels * pictures.height * pictures.width
    architecture: Architecture
    path: Path
    loss: Loss
    if number <= SMALL:
        width, minutes = {"tiny": (128, 1.0), "small": (384, 3.0), "base": (768, 20.0)}[size]
        levels = pictures.levels + 1
        architecture = Together({"image": Numbers(ends=levels), "label": Symbols(classes)}, width=width, depth=3)
        path, loss = Jump(ends=Lattice(count=levels), share=0.0), CrossEntropy()
        training = Training(batch=256, lr=1.5e-3, weight_decay=1e-2, decay=0.9, average=0.995, minutes=minutes)
    else:
        plain = images(data, size)
        architecture, path, loss = Captioned(unet(pictures, size), classes), Affine(), Squared()
        training = plain.train
    return Recipe(
        modality=modality,
        architecture=architecture,
        objective=Matching(
            Product({"image": path, "label": Mixture(source=MaskSource())}),
            modality.space(),
            PerLeaf({"image": loss, "label": CrossEntropy()}, {"label": LABEL}),
            drop=0.0,
            leaf_times=LeafTimes(given=0.4, apart=0.3),
        ),
        train=training,
        sampling=Sampling("midpoint", 64),
    )
