"""Training of a modality's auxiliary networks: tokenizers, autoencoders, text encoders and duration models."""

import pathlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from feller.app.reporter import Reporter
from feller.app.workflows.fitting.auxiliary_training import AuxiliaryTraining
from feller.app.workflows.fitting.image_latents import latent_code, make_latents
from feller.app.workflows.fitting.run_training import TrainingJob
from feller.core.errors import UsageError
from feller.core.run_folder import Run, open_run
from feller.data.batches import batch_loader, shuffled_loader
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.tiles import palette_of, tiles_of
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.speech.modality import Speech
from feller.models.infilling import LearnedDurations
from feller.models.model import load_model
from feller.models.recipes.interleaved import MAX_TILES, learned_codes
from feller.models.recipes.recipe import DocumentAuxNetworks, SpeechAuxNetworks
from feller.models.recipes.registry import check_size
from feller.models.spec import ModelSpec
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.learned_image_tokenizer import load_image_tokenizer
from feller.networks.sequence.bi_encoder import BiEncoderNetwork
from feller.networks.unwrapping import null_values
from feller.training.engine import Engine
from feller.training.objective import TrainingContext
from feller.training.objectives.autoencoding import AutoencodingLoss
from feller.training.objectives.contrastive import InfoNCE
from feller.training.optimizer import TrainConfig

if TYPE_CHECKING:
    from feller.app.workflows.fitting.plan_fit import FitPlan


def make_auxiliary_networks(
    run: Run, plan: "FitPlan", job: TrainingJob, engine: Engine, reporter: Reporter
) -> TrainingJob:
    """Load or train the auxiliary networks for the data, which may take long; the run folder must be locked.

    Returns:
        The job with the hashes of the networks, and with data and objective that use these networks.

    Raises:
        InputError: If a file of the run is damaged, belongs to another run, or is missing after training has started.
        UsageError: If the recipe's auxiliary networks do not fit the data.
    """
    config, data = plan.recipe.aux_networks, job.data
    if data is None or (config is None and latent_code(data.modality) is None):
        return job
    modality = data.modality
    pretrained = {*modality.aux_networks} if plan.start_model is not None else set()
    pretrained |= {"tokenizer"} if is_pretrained_tokenizer(plan.record.config.data_loading.tokenizer) else set()
    has_own_steps = any(word.partition("=")[0].endswith(".steps") for word in plan.record.provenance.fields)
    auxiliary = AuxiliaryTraining(
        run=run,
        pretrained=frozenset(pretrained),
        seed=plan.record.seed,
        engine=engine,
        minutes=None if job.config.steps is not None or has_own_steps else job.config.minutes,
        model_state=job.state,
    )
    if latent_code(modality) is not None:
        return make_latents(auxiliary, plan, job, reporter)
    if isinstance(config, SpeechAuxNetworks):
        return replace(
            job, description=make_speech_networks(auxiliary, config, modality, job.description, data, reporter)
        )
    if not isinstance(config, DocumentAuxNetworks):
        raise UsageError(f"the recipe needs {type(config).__name__}, which does not apply to {modality.display_name}")
    description, coded = make_document_networks(auxiliary, config, modality, job.description, data, reporter)
    reporter.start("preparing the documents")
    teacher = None if plan.start_model is None else plan.start_model.network
    context = TrainingContext(data=coded, teacher=teacher, null=null_values(job.state.network))
    objective = plan.recipe.objective.build(context)
    reporter.finish()
    return replace(job, description=description, objective=objective, data=coded)


def make_document_networks(
    auxiliary: AuxiliaryTraining,
    config: DocumentAuxNetworks,
    kind: Modality,
    spec: ModelSpec,
    data: Dataset,
    reporter: Reporter,
) -> tuple[ModelSpec, Dataset]:
    """Load or train the auxiliary networks of a document model.

    Returns:
        Model specification with hashes of the networks, and the data with the token codes of their images.

    Raises:
        InputError: If a file of the run is damaged, belongs to another run, or is missing after training has started.
        UsageError: If the data are not documents.
    """
    documents = kind.view(Documents)
    if documents is None:
        raise UsageError(f"the recipe needs {type(config).__name__}, which does not apply to {kind.display_name}")
    auxiliary.check_none_lost([*documents.aux_networks])
    if "tokenizer" in documents.aux_networks:
        train = partial(_tokenizer, auxiliary, config, documents, data, reporter)
        spec = auxiliary.load_or_train("tokenizer", documents.aux_networks["tokenizer"], spec, train)
    rows, columns = documents.tokenizer.grid
    reporter.log(f"each image is {rows} x {columns} tokens from a codebook of {documents.tokenizer.codebook_size:,}")
    coded = replace(data, values=documents.with_codes(data.values))
    if "vectors" in documents.aux_networks:
        train = partial(_vectors, auxiliary, config, documents, coded, reporter)
        spec = auxiliary.load_or_train("vectors", documents.aux_networks["vectors"], spec, train)
    return spec, coded


def _tokenizer(
    auxiliary: AuxiliaryTraining, config: DocumentAuxNetworks, documents: Documents, data: Dataset, reporter: Reporter
) -> None:
    """Train the image tokenizer on the images of all documents."""
    images, name = Images(documents.height, documents.width, documents.channels), "tokenizer"
    batch_fn = batch_loader(
        Dataset(all_pictures(data.values), {}, images), config.tokenizer.batch_size, auxiliary.rng_for(name)
    )
    objective = AutoencodingLoss(images.space())
    auxiliary.train(name, objective, batch_fn, documents.aux_networks[name], config.tokenizer, reporter)


def _vectors(
    auxiliary: AuxiliaryTraining, config: DocumentAuxNetworks, documents: Documents, data: Dataset, reporter: Reporter
) -> None:
    """Train the retrieval encoder: count the tokens of all texts, then match images to their texts (InfoNCE loss)."""
    network, name = documents.aux_networks["vectors"], "vectors"
    if not isinstance(network, BiEncoderNetwork):
        raise TypeError(f"expected a bi-encoder, got {type(network).__name__}")
    network.text_encoder.update_counts(documents.encode(data.values))
    objective = InfoNCE(documents.space(), documents.symbols).build(TrainingContext(data=data))
    batch_fn = batch_loader(data, config.vectors.batch_size, auxiliary.rng_for(name))
    auxiliary.train(name, objective, batch_fn, network, config.vectors, reporter)


def make_speech_networks(
    auxiliary: AuxiliaryTraining,
    config: SpeechAuxNetworks,
    kind: Modality,
    spec: ModelSpec,
    data: Dataset,
    reporter: Reporter,
) -> ModelSpec:
    """Load or train the duration networks of a speech model.

    Returns:
        Model specification with hashes of the networks.

    Raises:
        InputError: If a file of the run is damaged, belongs to another run, or is missing after training has started.
        UsageError: If the data are not speech.
    """
    speech = kind.view(Speech)
    if speech is None:
        raise UsageError(f"the recipe needs {type(config).__name__}, which does not apply to {kind.display_name}")
    auxiliary.check_none_lost([*speech.aux_networks])
    for name, durations, training in (
        ("durations", speech.duration_regressor, config.durations),
        ("rhythm", speech.duration_sampler, config.duration_sampler),
    ):
        if isinstance(durations, LearnedDurations):
            train = partial(_train_durations, auxiliary, name, durations, training, data, reporter)
            spec = auxiliary.load_or_train(name, durations.module, spec, train)
    return spec


def _train_durations(
    auxiliary: AuxiliaryTraining,
    name: str,
    durations: LearnedDurations,
    config: TrainConfig,
    data: Dataset,
    reporter: Reporter,
) -> None:
    """Train a duration network on the phones of all recordings."""
    phone = data.values["phone"]
    valid = phone >= 0
    examples = {"x_1": data.values["duration"], "given": {"phone": phone.clamp(min=0), "valid": valid}}
    batch_fn = shuffled_loader(examples, config.batch_size, auxiliary.rng_for(name), valid.sum(1))
    auxiliary.train(name, durations.objective, batch_fn, durations.network, config, reporter)


MAX_COLOURS = 256
"""Maximum number of colours in a palette."""


def with_tokenizer(data: Dataset, tokenizer: str, size: str) -> Dataset:
    """Return documents whose images use the given tokenizer.

    Args:
        data: Documents.
        tokenizer: Folder of a tokenizer run; or `palette`, `tiles` or `learned` (an untrained tokenizer, to be trained
            later).
        size: Network size of an untrained tokenizer.

    Raises:
        InputError: If the run is damaged, or the images have too many colours.
        UsageError: If the data are not documents, their recipe does not have the size, or the run is not a tokenizer.
    """
    check_size("interleaved", size)
    documents = data.modality.view(Documents)
    if documents is None:
        raise UsageError(
            f"applies to documents only; these data are {data.modality.display_name}",
            remedy="Leave it out",
            argument="tokenizer",
        )
    if documents.image_tokenizer is not None:
        raise UsageError(
            "the documents use the tokenizer of the model in --start-from", remedy="Leave it out", argument="tokenizer"
        )
    make_tokenizer = TOKENIZERS.get(tokenizer)
    if make_tokenizer is None and not pathlib.Path(tokenizer).exists():
        raise UsageError.unknown_name("tokenizer", tokenizer, TOKENIZERS, alternatives=", or the run of a tokenizer")
    image_tokenizer = (
        _tokenizer_of_run(tokenizer, documents) if make_tokenizer is None else make_tokenizer(data, documents, size)
    )
    return data.with_modality(documents.with_image_tokenizer(image_tokenizer, data.values["rows"]))


def _tiles(data: Dataset, documents: Documents, size: str) -> ImageTokenizer:
    """Return a tokenizer whose codebook is the most common tiles, of the size that a learned tokenizer would have."""
    return tiles_of(all_pictures(data.values), learned_codes(documents, size).config.factor, MAX_TILES)


TOKENIZERS: dict[str, Callable[[Dataset, Documents, str], ImageTokenizer]] = {
    "palette": lambda data, kind, size: palette_of(all_pictures(data.values), MAX_COLOURS),
    "tiles": _tiles,
    "learned": lambda data, kind, size: learned_codes(kind, size),
}
"""Tokenizer name -> function that makes the tokenizer from (documents, modality of the documents, network size)."""


def is_pretrained_tokenizer(tokenizer: str | None) -> bool:
    """Return True if the tokenizer is a run folder, whose weights are already trained."""
    return tokenizer is not None and tokenizer not in TOKENIZERS


def restore_tokenizer(data: Dataset, tokenizer: str, run: Run) -> Dataset:
    """Return documents whose images use the tokenizer of another run, to resume a run without its own copy of it.

    The run `run` lacks a copy if training stopped before the copy was written. If it has one, or `tokenizer` is not a
    run folder, the data are returned unchanged.

    Args:
        data: Documents.
        tokenizer: Folder of the tokenizer run, or the name of a tokenizer.
        run: Run to resume.

    Raises:
        InputError: If the run `tokenizer` is damaged.
        UsageError: If the run `tokenizer` is not a tokenizer that matches the data.
    """
    documents = data.modality.view(Documents)
    if not is_pretrained_tokenizer(tokenizer) or documents is None or run.aux_weights("tokenizer").is_file():
        return data
    return data.with_modality(replace(documents, image_tokenizer=_tokenizer_of_run(tokenizer, documents)))


def _tokenizer_of_run(path: str, documents: Documents) -> ImageTokenizer:
    """Load the image tokenizer of a run."""
    model = load_model(open_run(path))
    architecture, images = model.spec.architecture, model.spec.modality.view(Images)
    if not isinstance(architecture, ConvTokenizer) or images is None:
        raise UsageError(
            "is not a tokenizer", remedy="Fit a tokenizer with: feller fit IMAGES --recipe image-tokenizer", file=path
        )
    if images.shape != documents.shape:
        ours, theirs = ("{2}x{1} with {0} channels".format(*shape) for shape in (documents.shape, images.shape))
        raise UsageError(
            f"{path} encodes images of {theirs}, but these documents have images of {ours}",
            remedy="Resize the images of the documents with --longest",
        )
    return load_image_tokenizer(architecture, images.shape, model.network.state_dict())
