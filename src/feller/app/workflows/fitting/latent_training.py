"""Training of the autoencoder of images, and encoding of the training images before the flow is trained."""

from dataclasses import replace
from functools import partial

from feller.app.commands.flag_types import LATENT
from feller.app.reporter import Reporter
from feller.app.workflows.fitting.auxiliary_training import AuxiliaryTraining
from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.app.workflows.fitting.image_latents import NAME, latent_code
from feller.app.workflows.fitting.run_training import TrainingJob
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.modality import Dataset
from feller.models.recipes.latent_images import auxiliary_settings
from feller.models.recipes.recipe import LatentAuxNetworks, Recipe
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoder, AdversarialAutoencoderNetwork
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding

TIME_FRACTION = 0.4
"""Largest fraction of the training time that the autoencoder takes, whose reconstructions bound the samples."""


def make_latents(auxiliary: AuxiliaryTraining, plan: FitPlan, job: TrainingJob, reporter: Reporter) -> TrainingJob:
    """Load or train the autoencoder of a run, and encode the training images.

    Returns:
        The job with the hash of the autoencoder, and with the moments of latents as data; see `latent_batches`.

    Raises:
        InputError: If a file of the run is damaged, belongs to another run, or is missing after training has started.
        UsageError: If the data are not images with an autoencoder.
    """
    data = job.data
    code = None if data is None else latent_code(data.modality)
    images = None if data is None else data.modality.view(Images)
    if data is None or code is None or images is None:
        raise UsageError("the recipe needs images with an autoencoder", remedy="Use --latent")
    auxiliary.check_none_lost([NAME])
    latent, size = plan.record.config.data_loading.latent, plan.record.provenance.size
    train = partial(_train, auxiliary, plan.recipe, latent, size, images, data, reporter)
    spec = auxiliary.load_or_train(NAME, code.network, job.description, train)
    reporter.log(_description(code))
    if plan.recipe.reflow_pairs:  # the start model samples pairs of latents
        return replace(job, description=spec)
    reporter.start("encoding the images")
    code.network.to(auxiliary.engine.device)
    moments = code.moments(data.values, images.levels)
    code.network.to("cpu")
    reporter.finish()
    return replace(job, description=spec, data=replace(data, values=moments[:, None]))


def _train(
    auxiliary: AuxiliaryTraining,
    recipe: Recipe,
    latent: object,
    size: str,
    images: Images,
    data: Dataset,
    reporter: Reporter,
) -> None:
    """Train the autoencoder, unless it is that of another run, and set the scale of its latents."""
    code, config = latent_code(images), recipe.aux_networks
    if code is None:
        raise TypeError("expected images with latents")
    config = config if isinstance(config, LatentAuxNetworks) else auxiliary_settings(size)
    if latent in (None, LATENT):
        pixels = replace(images, code=AsNumbers())
        adversarial = AdversarialAutoencoder(code.config).build(images.shape, {}, Rng(auxiliary.seed).fold_in(NAME))
        code.network.load_state_dict(adversarial.autoencoder.state_dict())
        network = AdversarialAutoencoderNetwork(code.network, adversarial.discriminator)
        replace(auxiliary, time_fraction=TIME_FRACTION).train(
            NAME,
            AdversarialAutoencoding(pixels.space(), config.adversarial_weight),
            batch_loader(replace(data, modality=pixels), config.autoencoder.batch_size, auxiliary.rng_for(NAME)),
            network,
            config.autoencoder,
            reporter,
        )
    code.network.to(auxiliary.engine.device)
    code.set_statistics(data.values, images.levels)
    code.network.to("cpu")


def _description(code: AsLatents) -> str:
    """Return a text with the shape of the latents, and with the padding of the images if there is any."""
    (channels, rows, columns), factor = code.network.latent_shape, code.config.factor
    _, height, width = code.shape
    padded = (
        ""
        if (rows * factor, columns * factor) == (height, width)
        else f"; images are padded from {width} x {height} to {columns * factor} x {rows * factor} pixels"
    )
    return f"each image is {columns} x {rows} latents of {channels} channels{padded}"
