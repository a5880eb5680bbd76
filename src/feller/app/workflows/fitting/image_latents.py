"""Images whose states are the latents of an autoencoder."""

import pathlib
from dataclasses import replace

import torch

from feller.app.commands.flag_types import LATENT
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.data.batches import Batch
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.models.model import load_model
from feller.models.recipes.latent_images import with_autoencoder
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES, check_size
from feller.networks.image.autoencoder import sample_latents
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoderNetwork
from feller.training.loop import BatchFn

NAME = "autoencoder"
"""Name of the auxiliary network."""


def latent_code(modality: Modality) -> AsLatents | None:
    """Return the encoding of images as latents; None for other data."""
    images = modality.view(Images)
    return images.code if images is not None and isinstance(images.code, AsLatents) else None


def with_latents(data: Dataset, latent: object, size: str) -> Dataset:
    """Return images whose states are latents.

    Args:
        data: Images.
        latent: Run of an autoencoder or of a latent flow; or `learned` for an autoencoder that is trained later.
        size: Size of an autoencoder that is trained later.

    Raises:
        InputError: If the run is damaged.
        UsageError: If the data are not images in memory, or the run has no autoencoder of such images.
    """
    images = data.modality.view(Images)
    if images is None:
        raise UsageError(
            f"applies to images only; these data are {data.modality.display_name}",
            remedy="Leave it out",
            argument="latent",
        )
    data.require_in_memory("--latent")
    if latent_code(images) is not None:
        raise UsageError(
            "the images use the autoencoder of the model in --start-from", remedy="Leave it out", argument="latent"
        )
    check_size("latent-images", size)
    if latent == LATENT:
        return data.with_modality(with_autoencoder(images, size))
    return data.with_modality(replace(images, code=_code_of_run(str(latent), images)))


def restore_latents(data: Dataset, latent: object, run: Run) -> Dataset:
    """Return images with the autoencoder of another run, to resume a run without its own copy of it.

    The run `run` lacks a copy if training stopped before the copy was written. If it has one, or `latent` is not a
    run, the data are returned unchanged.

    Raises:
        InputError: If the run `latent` is damaged.
        UsageError: If the run `latent` has no autoencoder of such images.
    """
    images = data.modality.view(Images)
    if latent in (None, LATENT) or images is None or run.aux_weights(NAME).is_file():
        return data
    return data.with_modality(replace(images, code=_code_of_run(str(latent), images)))


def _code_of_run(path: str, images: Images) -> AsLatents:
    """Return the latents of the autoencoder of a run."""
    if not pathlib.Path(path).exists():
        raise UsageError("the run of an autoencoder or of a latent flow", path, "Check the path", argument="latent")
    model = load_model(open_run(path))
    code = latent_code(model.spec.modality)
    if code is None:
        network = model.network
        if not isinstance(network, AdversarialAutoencoderNetwork):
            raise UsageError(
                "has no autoencoder of images",
                remedy="Fit one with: feller fit IMAGES --recipe image-autoencoder",
                file=path,
            )
        code = AsLatents.from_network(network.autoencoder)
    if code.shape != images.shape:
        theirs, ours = ("{2} x {1} with {0} channels".format(*shape) for shape in (code.shape, images.shape))
        raise UsageError(
            f"encodes images of {theirs}, but these images are {ours}",
            remedy="Resize the images with --longest",
            file=path,
        )
    return code


def check_latent(recipe: Recipe, name: str, dataset: Dataset) -> None:
    """Raise a UsageError if a recipe is not made for the latents of the data, or augments them as if pixels."""
    if latent_code(dataset.modality) is None:
        return
    is_flow = latent_code(recipe.modality or dataset.modality) is not None and recipe.objective.family == "process"
    if not is_flow or (name in RECIPES and recipe.aux_networks is None):
        raise UsageError(
            "--recipe latent-images or latent-images-dit with --latent",
            name,
            "Leave out --recipe, or --latent",
            argument="recipe",
        )
    if recipe.train.augmentation.is_on:
        raise UsageError(
            "augmentation changes pixels, but mirrored latents are no latents of a mirrored image",
            remedy="Leave it out",
            argument="train.augmentation",
        )


def latent_batches(load: BatchFn, batch_size: int, rng: Rng) -> BatchFn:
    """Return a function that loads batches of latents, sampled anew at each step.

    A sampled latent depends on seed, step and example only.

    Args:
        load: Function that loads the moments of latents as `x_1`, [b, copies, 2 channels, rows, columns]; one of
            several augmented copies of an image is drawn at random.
        batch_size: Size of the global batch.
        rng: Random stream of the run.
    """

    def batch(step: int, rows: slice) -> Batch:
        loaded = load(step, rows)
        moments = loaded["x_1"]
        n, copies, channels, *sides = moments.shape
        stream = Rng(rng.seed, rows.indices(batch_size)[0], batch_size).fold_in("latents", step).stream("latents")
        noise = stream.normal((n, channels // 2, *sides))
        copy = stream.randint(copies, (n,))
        return {**loaded, "x_1": sample_latents(moments[torch.arange(n), copy], noise)}

    return batch
