"""Metrics of image autoencoders: reconstruction errors, and the Fréchet distance of reconstructions."""

import torch

from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.comparison import compare_sets, reference_data, subsample
from feller.evaluation.image_metrics import fd_cnn
from feller.evaluation.judge import Judge
from feller.evaluation.tokenizer_metrics import pixel_errors
from feller.models.model import Model
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoderNetwork

MAX_RECONSTRUCTED = 1000
"""Maximum number of images whose reconstruction errors are averaged for a latent flow."""


def latents_of(model: Model) -> AsLatents | None:
    """Return the latents of a flow of latents, or of an autoencoder; None for other models."""
    images = model.spec.modality.view(Images)
    if images is None:
        return None
    if isinstance(model.network, AdversarialAutoencoderNetwork):
        return AsLatents.from_network(model.network.autoencoder)
    return images.code if isinstance(images.code, AsLatents) else None


def reconstructed(code: AsLatents, data: Dataset) -> Dataset:
    """Return images, encoded and decoded by an autoencoder; `data` have the modality of pixels."""
    images = data.modality.view(Images)
    levels = 255 if images is None else images.levels
    state = code.encode(data.values, levels)
    values = code.decode(state.to(code.network.from_latent.weight.device), levels)
    return Dataset(values.to(data.values.device), data.given, data.modality)


def autoencoder_errors(code: AsLatents, data: Dataset, copies: Dataset) -> dict[str, float | None]:
    """Return the errors of reconstructed images, and those of images that are downsampled to the grid of latents."""
    images = data.modality.view(Images)
    _, rows, columns = code.network.latent_shape
    return pixel_errors(data.values, copies.values, (rows, columns), 255 if images is None else images.levels)


def reconstruction_distance(
    code: AsLatents, train: Dataset, held_out: Dataset, n: int, judge: Judge, rng: Rng
) -> dict[str, float | None]:
    """Return the Fréchet distance of reconstructed training images from real images, and that of training images.

    Args:
        code: Latents of the autoencoder.
        train: Training images, with the modality of pixels.
        held_out: Held-out images; the real images are training images if these are too few.
        n: Number of reconstructed images; as many as samples make both distances comparable.
        judge: Network of the features.
        rng: Random stream by which `image_quality` chooses images for the same purpose.

    Returns:
        `fd_cnn_reconstructed`, and `fd_cnn_floor`, which is None if the real images are training images.
    """
    sets = compare_sets(train.subset(torch.arange(min(n, len(train)))), train, held_out, rng)
    real, source = judge.features(sets.real.values), sets.floor or sets.samples
    floor = None if sets.floor is None else fd_cnn(judge.features(sets.floor.values), real)
    copies = reconstructed(code, source)
    return {"fd_cnn_reconstructed": fd_cnn(judge.features(copies.values), real), "fd_cnn_floor": floor}


def latent_quality(
    code: AsLatents, train: Dataset, held_out: Dataset, n: int, judge: Judge, rng: Rng
) -> dict[str, float | None]:
    """Return how well the autoencoder of a latent flow reconstructs images, which limits the quality of its samples.

    Arguments are those of `reconstruction_distance`.
    """
    real = subsample(reference_data(train, held_out), MAX_RECONSTRUCTED, rng.fold_in("reconstructed"))
    errors = autoencoder_errors(code, real, reconstructed(code, real))
    distance = reconstruction_distance(code, train, held_out, n, judge, rng)
    return {
        "reconstruction_psnr": errors["psnr"],
        "reconstruction_psnr_shrunk": errors["psnr_shrunk"],
        "fd_cnn_reconstructed": distance["fd_cnn_reconstructed"],
    }
