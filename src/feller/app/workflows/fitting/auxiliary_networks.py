"""Training of a modality's auxiliary networks: tokenizers, autoencoders, text encoders and duration models."""

from dataclasses import replace
from functools import partial

from feller.app.reporter import Reporter
from feller.app.workflows.fitting.auxiliary_training import AuxiliaryTraining
from feller.app.workflows.fitting.document_tokenizers import is_pretrained_tokenizer
from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.app.workflows.fitting.image_latents import latent_code
from feller.app.workflows.fitting.latent_training import make_latents
from feller.app.workflows.fitting.run_training import TrainingJob
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.batches import batch_loader, shuffled_loader
from feller.data.documents.modality import Documents, all_pictures
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.speech.modality import Speech
from feller.models.infilling import LearnedDurations
from feller.models.recipes.recipe import DocumentAuxNetworks, SpeechAuxNetworks
from feller.models.spec import ModelSpec
from feller.networks.sequence.bi_encoder import BiEncoderNetwork
from feller.networks.unwrapping import null_values
from feller.training.engine import Engine
from feller.training.objective import TrainingContext
from feller.training.objectives.autoencoding import AutoencodingLoss
from feller.training.objectives.contrastive import InfoNCE
from feller.training.optimizer import TrainConfig


def make_auxiliary_networks(
    run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
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
