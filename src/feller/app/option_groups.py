"""Groups of options that several commands share, as frozen classes: flags, keyword arguments, and defaults.

This module does not import torch, so `feller COMMAND --help` is fast.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from feller.app.commands.flag_types import (
    Callbacks,
    Choices,
    Code,
    CodePath,
    Conditions,
    FileAndText,
    KeyValues,
    LargeInt,
    LatentSource,
    Limits,
    Names,
    NumberOrWord,
    Numbers,
    OptionalFloat,
    OptionalInt,
    OptionalText,
    PositiveFloat,
    PositiveInt,
    RawText,
    RunStart,
    SchemaSource,
    TableSource,
    Targets,
    Verbose,
    as_latent,
    as_run_path,
    as_texts,
    code_of,
    flag_name,
    normalize_fields,
    plain_path,
)
from feller.core.errors import UsageError
from feller.data.database_urls import hide_password

ADAPTIVE, AUTO = "adaptive", "auto"
"""Value of `clip` for adaptive clipping, which tracks the noisy median of the per-example gradient norms."""


class OptionsType(type):
    """Metaclass of configs: their constructors also accept the options of nested groups directly, by name.

    It also hides names with double underscores from tab completion.
    """

    if not TYPE_CHECKING:  # type checkers know the options of each class

        def __call__(cls, *args: Any, **options: Any) -> Any:
            from feller.app.options import check_types, config_of

            options = {name: hide_password(value) for name, value in options.items()}
            own_fields = cls.__dataclass_fields__
            if args or not all(name in own_fields for name in options):
                return config_of(cls, *args, **options)
            check_types(cls, options)
            return super().__call__(**options)

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("__") or name == "__init__"]


@dataclass(frozen=True, kw_only=True)
class PrintingOptions(metaclass=OptionsType):
    """Options for printing results and progress."""

    json: bool = False
    """Print the results as one JSON object, the last line of standard output."""
    verbose: Verbose = None
    """Show progress (default: only on a terminal and in a notebook)."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(metaclass=OptionsType):
    """Options for loading a run and printing results."""

    code: CodePath = None
    """Python file that defines the custom components of the model, such as its recipe, network or modality."""
    json: bool = False
    """Print the results as one JSON object, the last line of standard output."""
    verbose: Verbose = None
    """Show progress (default: only on a terminal and in a notebook)."""


@dataclass(frozen=True, kw_only=True)
class RunFolderOptions(metaclass=OptionsType):
    """Options of the run folder to write."""

    out: OptionalText = None
    """Run folder (default: a new folder under runs/)."""
    resume: bool = False
    """Continue the training of the run in --out (default: the newest run). A bridge continues after its last completed
    round."""
    overwrite: bool = False
    """Replace the run in --out."""


@dataclass(frozen=True, kw_only=True)
class SampleFileOptions(metaclass=OptionsType):
    """Options of the sample files."""

    out: OptionalText = None
    """Output path; its extension sets the format. All types of data can be written as .npz; some also as .csv, .tsv,
    .parquet, .npy, .txt, .jsonl, .cif, .xyz, .sdf or .pdb. Without an extension, a folder is written. Rows of tables
    also as a new table of a database, such as 'sqlite:///shop.db#new'. Default: samples/ in the run."""
    overwrite: bool = False
    """Replace the file or table in --out, or shards that were written with other options."""
    shard_size: LargeInt = None
    """Number of samples per shard: write the samples to several files, called shards, with a manifest. The shards are
    named FOLDER/samples-00000.npz, ... for --out FOLDER, and FOLDER/NAME-00000.csv, ... for --out FOLDER/NAME.csv.
    {shard} in a file name is replaced by the shard number. Default folder: shards/ in the run. Run the same command
    again to resume after an interruption."""


@dataclass(frozen=True, kw_only=True)
class RowOptions(metaclass=OptionsType):
    """Options of table rows: imputation, rebalancing and fairness."""

    impute: Annotated[OptionalText, Choices(("sample", "best", "mean"))] = None
    """Imputed cells of the table in --complete: sample (default), which keeps the spread; best, the median of numbers
    and times and the most likely value of other columns; or mean, the mean of numbers and times."""
    imputations: PositiveInt = None
    """Number of independent imputations of the table in --complete (multiple imputation), written to NAME-1.csv,
    NAME-2.csv, ... for --out NAME.csv."""
    shares: Conditions = None
    """Shares of the values of a column, as COLUMN=VALUE:SHARE, such as Revenue=TRUE:0.5, instead of those of the model.
    Values that are not named get the rest. The other columns follow their conditional distribution. In Python
    {"Revenue": {"TRUE": 0.5}}."""
    fair: OptionalText = None
    """Sensitive column of which the target of the schema is made independent (demographic parity). Both columns keep
    their distribution; the other columns follow their conditional distribution given both."""


@dataclass(frozen=True, kw_only=True)
class InfillOptions(metaclass=OptionsType):
    """Options for filling in missing parts of given samples."""

    template: RawText = None
    """Text template to fill in: each `_` is replaced by one generated token, and more tokens are generated after
    the end of the template. \\n is a line break."""
    complete: TableSource = None
    """Table or arrays whose missing entries are imputed, instead of generating -n new examples. Empty cells and the
    cells ? and * of a table are missing, unless the column has ? or * as a regular value; in arrays, NaN, and steps of
    series without a row."""
    rows: Annotated[RowOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RowOptions)
    """Options of table rows."""


@dataclass(frozen=True, kw_only=True)
class TokenOptions(metaclass=OptionsType):
    """Options of sampling tokens."""

    temperature: Annotated[OptionalFloat, Limits(0.0)] = None
    """Softmax temperature of the tokens (default: 1, or 0.5 when filling in text)."""
    top_k: PositiveInt = None
    """Sample each token only from the K most likely tokens."""
    top_p: OptionalFloat = None
    """Sample each token only from the smallest set of most likely tokens with a total probability of at least P
    (nucleus sampling)."""
    length: PositiveInt = None
    """Number of tokens of each text (default: that of the training texts). Texts are cut or extended to it; long ones
    are generated best with the recipe text-blocks or text-autoregressive."""
    order: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:ORDERS",))] = None
    """Order in which masked tokens are sampled: confidence or entropy (default: random)."""
    rates: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:RATES",))] = None
    """Jump rates of the token process: kinetic-optimal or reversal (default: those of the model). For a mixture path
    with a source other than the mask, the metric bits_per_token is a likelihood bound only for samples generated with
    `reversal`."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(metaclass=OptionsType):
    """Sampler options."""

    nfe: PositiveInt = None
    """Number of function evaluations (network calls) per sample; a midpoint step takes two calls."""
    solver: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:SOLVERS",))] = None
    """Solver: euler, midpoint, heun, rk4, ab2, ab3, ab4, dpm-solver++, dpm-solver++-sde, unipc, deis, dopri5,
    euler-maruyama, ancestral, ddim or consistency (default: the solver of the recipe)."""
    superpose: OptionalText = None
    """For models that combine a flow and a jump process: weight of the jump process in their superposition, as
    jump=WEIGHT, such as jump=0.5."""
    compile: bool = False
    """Compile the network with torch.compile, which pays off only for many samples. Needs a C++ compiler."""
    precision: Annotated[OptionalText, Choices(registries=("feller.core.precision:PRECISIONS",))] = None
    """Precision of network calls: auto (default: bf16 on CUDA if supported, else fp32), fp32, tf32, bf16 or fp16.
    States and solver sums stay in float32."""
    guidance_method: Annotated[
        OptionalText, Choices(registries=("feller.sampling.guidance_config:GUIDANCE_METHODS",))
    ] = None
    """Variant of classifier-free guidance: cfg (default), rescale, zero-star or apg."""
    guidance_interval: Numbers = ()
    """First and last time at which guidance acts, such as 0.2 0.8 (default: always)."""
    guide: OptionalText = None
    """Run of a smaller or less trained model of the same data, which guides instead of the unconditional model
    (autoguidance); --guidance is its scale."""
    grid: OptionalText = None
    """Times of the steps: linear (default); shifted=S, denser near the data for S below 1, near the noise above 1; or
    error, where the steps have about equal errors, measured on 64 samples before sampling."""
    tokens: Annotated[TokenOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=TokenOptions)
    """Options of sampling tokens."""


@dataclass(frozen=True, kw_only=True)
class DocumentOptions(metaclass=OptionsType):
    """Sampling options for documents."""

    prompt: RawText = None
    """Text prompt for an image, optionally with the markers <image:FILE>, <break>, <mask> and <infill>;
    "<image:cat.png> <infill>" generates a caption. A backslash before < escapes a marker."""
    mask: OptionalText = None
    """Mask for the image in --prompt: a black and white image whose white pixels are regenerated."""
    edit: FileAndText = ()
    """For documents: image file and editing instruction; generates the edited image. For speech: audio file and its
    transcript; regenerates the words that differ from --text and keeps the others."""
    ask: FileAndText = ()
    """Image file and a question about the image; generates the answer."""
    memory: OptionalText = None
    """Documents for retrieval-augmented generation: a file or folder, or the output of `feller data memory`."""
    documents: OptionalInt = None
    """Number of retrieved documents to prepend to the prompt (default: 2); fewer if they do not fit into the
    context."""
    picture_guidance: OptionalFloat = None
    """Guidance scale of the image in --edit; --guidance is the guidance scale of the instruction."""
    min_p: OptionalFloat = None
    """With guidance, never sample image tokens whose probability is below P times that of the most likely token
    (default: 0.1; 0 allows all tokens)."""
    contrast: OptionalText = None
    """Contrastive decoding of image tokens, as K or K:ALPHA: sample only tokens that are at least ALPHA times as likely
    as the K-th most likely token. With --guidance too, the generated documents alternate between guidance and
    contrastive decoding."""
    best_of: PositiveInt = None
    """Number of candidates to generate per document; the candidate whose images match its text best is kept."""


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(metaclass=OptionsType):
    """Sampling options for speech."""

    text: RawText = None
    """Text to speak."""
    voice: FileAndText = ()
    """Audio file with the voice that speaks --text, optionally followed by its transcript in quotes. By default the
    transcript is read from the .txt file of the same name, or recognised by Whisper (extra `judges`). The other flags
    with an audio file take its transcript in the same way."""
    denoise: FileAndText = ()
    """Audio file in which the time span --span is regenerated without background noise."""
    span: RawText = None
    """Time span of the recording in --denoise to regenerate, as FROM:TO in seconds, such as 1.2:2.0."""
    style: FileAndText = ()
    """Audio file whose voice and speaking style are applied to the recording in --content."""
    content: FileAndText = ()
    """Audio file whose words are spoken again with the same timing, in a random voice or the voice of --style."""
    speed: OptionalFloat = None
    """Speaking rate relative to the model's prediction (default: 1)."""
    durations: OptionalText = None
    """CSV file with the duration of each phone of --text, in the format of the .csv file that is saved with each
    generated recording."""
    spell: bool = False
    """Spell words that are missing from the pronunciation dictionary letter by letter."""
    language: OptionalText = None
    """Language of --text as an eSpeak code, such as de, for models of languages other than English."""
    vocoder: OptionalText = None
    """Vocoder from log-mel spectrograms to audio: griffin-lim, griffin-lim:ITERATIONS, a run of the recipe `vocoder`,
    or a folder with HiFi-GAN weights."""


@dataclass(frozen=True, kw_only=True)
class TransportOptions(metaclass=OptionsType):
    """Sampling options for bridges."""

    from_data: Annotated[OptionalText, flag_name("--from")] = None
    """Samples to transport: a file or folder in the format of the populations (default: the first population, or the
    last with --backward)."""
    backward: bool = False
    """Transport backward in time, from the last population to the first."""


@dataclass(frozen=True, kw_only=True)
class HistoryOptions(metaclass=OptionsType):
    """Options of tables with several rows per person, such as visits or orders."""

    person: OptionalText = None
    """Column that identifies the person of each row; for a folder of tables, the table of persons. The model then
    generates persons with all of their rows, and a private fit protects persons."""
    order: OptionalText = None
    """Column of numbers or dates by which the rows of a person are sorted, or TABLE.COLUMN of several tables (default:
    the order of the file)."""
    max_rows: PositiveInt = None
    """Maximum number of rows per person; further rows are not used (default: that of the table, but at most 100)."""


@dataclass(frozen=True, kw_only=True)
class DataLoadingOptions(metaclass=OptionsType):
    """Data loading options."""

    condition: Targets = ()
    """Columns or properties to condition on: the model learns the distribution of all else given these. A condition is
    a column of a table, a property in XYZ comments or SDF records, a column next to the CIF column of a .csv, or an
    array of an .npz. Numbers, vectors, categories, texts, and sets such as red|blue are recognised. NAME=PIXELS
    conditions on the images themselves, shrunk; NAME=FILE.npy on the rows of an array; and NAME=FOLDER on the texts of
    the column NAME, encoded by the transformers model in the folder."""
    longest: PositiveInt = None
    """Maximum size of an example. Images are resized so that their longer side has this many pixels (default: at most
    64; 128, 256 and 512 for the sizes base, large and xl; 32 in documents). Protein chains with more residues than this
    (default: 128), crystals or molecules with more atoms (default for molecules: 64) and recordings with more seconds
    (default: 30) are dropped. Texts are modelled in sequences of this many tokens (default: 128)."""
    space: Annotated[OptionalText, Choices(registries=("feller.data.points.named_spaces:NAMES",))] = None
    """Manifold on which numeric rows lie: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a mesh
    (.obj, .off)."""
    project: bool = False
    """Project points off the manifold --space to the nearest point on it, instead of raising an error."""
    vocabulary: Annotated[OptionalText, Choices(registries=("feller.data.text.dataset:NAMES",))] = None
    """Tokens into which text is split: characters, bytes, subwords or subwords:NUMBER (default: characters, or bytes if
    there are many distinct characters)."""
    tokenizer: Annotated[
        OptionalText, Choices(registries=("feller.app.workflows.fitting.document_tokenizers:TOKENIZERS",))
    ] = None
    """Image tokenizer of documents: a run of the recipe `image-tokenizer`, `palette` for images with few
    colours, `tiles` for images built from few repeated tiles, or `learned`, which is trained first (default: `tiles` if
    possible, otherwise `learned`)."""
    latent: LatentSource = None
    """Generate images as latents of an autoencoder, which is trained first, or is that of the run given: a run of the
    recipe `image-autoencoder`, or another run with --latent. For larger images: the flow costs several times less."""
    modality: Code = None
    """Custom modality that reads DATA, as file.py:Class; see docs/guides/extend.md."""
    schema: SchemaSource = None
    """Schema file with the public facts about a table: its columns and their possible values. `feller data schema`
    writes a draft."""
    nested: bool = False
    """In a folder of images or texts, read all folders inside a class folder too."""
    links: bool = False
    """In a folder of images or texts, follow symbolic links that point outside the folder."""
    histories: Annotated[HistoryOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=HistoryOptions)
    """Options of tables with several rows per person."""

    def __post_init__(self) -> None:
        normalize_fields(self, condition=as_texts, latent=as_latent, modality=code_of("modality"), schema=plain_path)


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions(metaclass=OptionsType):
    """Options for training with differential privacy."""

    epsilon: OptionalFloat = None
    """Privacy budget epsilon: train with (epsilon, delta)-differential privacy with respect to single rows, or with
    --person, to persons with all of their rows."""
    delta: Annotated[NumberOrWord, Choices((AUTO,))] = None
    """Delta of (epsilon, delta)-differential privacy, or auto, which is min(1e-5, 1 / n^1.1) for n rows or
    persons."""
    noise: OptionalFloat = None
    """Noise multiplier of DP-SGD, instead of --epsilon: standard deviation of the noise divided by the clipping
    norm."""
    stop_at_epsilon: OptionalFloat = None
    """Privacy budget for training with --noise: training stops when epsilon reaches this value."""
    clip: Annotated[NumberOrWord, Choices((ADAPTIVE,))] = None
    """Per-example gradient clipping norm (default: 1), or `adaptive` (tracks the noisy median norm)."""
    bands: Annotated[NumberOrWord, Choices((AUTO,))] = None
    """Number of steps over which the noise is correlated, so that it partly cancels (default: 1, independent noise), or
    `auto` (the number with the least noise of the gradient sums)."""
    audit: KeyValues = ()
    """As fisher=ROWS: at each training step, compute the Fisher information loss of ROWS randomly chosen rows, which
    bounds how accurately they can be reconstructed; `feller audit` reports it."""
    unsafe_seed: OptionalInt = None
    """Seed of the privacy noise, for tests only: anyone who knows the seed can remove the noise."""


@dataclass(frozen=True, kw_only=True)
class LoRAOptions(metaclass=OptionsType):
    """Low-rank adaptation (LoRA)."""

    rank: PositiveInt = None
    """LoRA rank of each weight matrix (default: no LoRA, all weights are trained)."""
    target_modules: Names = ()
    """Modules that LoRA adapts, by name or the end of their name, such as to_q to_v (default: all)."""

    def check(self) -> None:
        """Raise a UsageError if modules are named without a rank."""
        if self.target_modules and self.rank is None:
            expected = "a rank, for --target-modules"
            raise UsageError(argument="rank", expected=expected, found="none", remedy="Add --rank 16")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(metaclass=OptionsType):
    """Training length, initial weights and callbacks."""

    minutes: PositiveFloat = None
    """Training time in minutes (default: the training time of the recipe)."""
    steps: PositiveInt = None
    """Number of training steps, instead of --minutes."""
    start_from: RunStart = None
    """Run whose weights initialise the model; for `reflow`, `distil` and flow maps it is also the teacher."""
    lora: Annotated[LoRAOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=LoRAOptions)
    """Low-rank adaptation of the model in --start-from, instead of the training of all weights."""
    callbacks: Callbacks = ()
    """Functions that are called after each training step and can stop the training."""

    def __post_init__(self) -> None:
        normalize_fields(self, start_from=as_run_path, callbacks=tuple)


@dataclass(frozen=True, kw_only=True)
class MeasurementOptions(metaclass=OptionsType):
    """Inverse problem: measurement, operator and solver."""

    observe: OptionalText = None
    """Measurements of one or several examples: an image, or an array in an .npy or .npz file."""
    operator: Annotated[OptionalText, Choices(registries=("feller.app.workflows.steering.measurements:OPERATORS",))] = (
        None
    )
    """Measurement operator: inpaint, pool=FACTOR (average pooling), blur=WIDTH (Gaussian blur; WIDTH is its standard
    deviation in pixels), unknown-blur (of unknown width), grey, sums=COUNT (random projections), magnitudes (of the
    Fourier transform), file.py:FUNCTION, or file.py:FORWARD,ADJOINT for a linear operator."""
    mask: OptionalText = None
    """Mask of the region to fill in with --operator inpaint: white in an image, 1 or True in an array."""
    noise: Annotated[float, Limits(0.0)] = 0.0
    """Standard deviation of the measurement noise, in data units."""
    method: Annotated[str, Choices(registries=("feller.control.inverse.inverse_methods:METHODS",))] = "source"
    """Inverse problem solver: source (optimises the initial noise); pigdm, ot-ode or dps (guided sampling);
    red-diff; or smc (particles that follow the posterior, with their effective sample size). With --reward: source, or
    smc for samples of the distribution tilted by exp(reward)."""
    particles: PositiveInt = None
    """Number of particles of --method smc, per measurement or for the reward (default: 64)."""
    scale: PositiveFloat = None
    """Guidance scale of pigdm, ot-ode and dps (default: 1; 10 for dps). A scale of 3 (20 for dps) often reconstructs
    better."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(metaclass=OptionsType):
    """Options of the reward search."""

    nfe: PositiveInt = None
    """Network calls per ODE solve in the reward search (default: 12, which are six midpoint steps)."""
    solver: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:VELOCITY_SOLVERS",))] = None
    """ODE solver: euler, midpoint, heun or rk4."""
    prior: Annotated[str, Choices(("shell", "none"))] = "shell"
    """Prior on the initial noise that is optimised: `shell` keeps its norm fixed; `radius=W` adds W times the negative
    log-density of its norm to the loss; `none` disables the prior."""
    optimize: Annotated[str, Choices(registries=("feller.app.workflows.steering.model_flow:SEARCH_VARIABLES",))] = (
        "source"
    )
    """Variable optimised for the reward: source (the initial noise), condition (the embedded conditions), or both."""


@dataclass(frozen=True, kw_only=True)
class FlowOptions(metaclass=OptionsType):
    """Guidance and precision of the flow that is steered."""

    guidance: float = 1.0
    """Classifier-free guidance scale; 1 is the conditional model."""
    precision: Annotated[str, Choices(registries=("feller.core.precision:PRECISIONS",))] = "fp32"
    """Precision of network calls, as for `feller sample`; by default fp32, because optimisers compare small differences
    of rewards."""


@dataclass(frozen=True, kw_only=True)
class ConditionOptions(metaclass=OptionsType):
    """Conditions and guidance of the samples during fine-tuning."""

    given: Conditions = None
    """Conditions fixed during fine-tuning, as KEY=VALUE. Other conditions are sampled with their training
    frequencies."""
    prompts: Names = ()
    """Prompts, of which each sample has a random one; or one .txt file with a prompt per line."""
    guidance: float = 1.0
    """Classifier-free guidance scale of all samples during fine-tuning; the guided distribution is fine-tuned."""


@dataclass(frozen=True, kw_only=True)
class WorkOptions(metaclass=OptionsType):
    """Compute and memory options of a bridge."""

    pairs: Annotated[OptionalInt, Limits(2.0)] = None
    """Number of pairs (start point, endpoint) simulated per round of the bridge (default: 1,024; 512 for images)."""
    resample: Annotated[OptionalInt, Limits(0.0)] = None
    """Number of trajectories per endpoint pair. Trajectories resampled with importance weights from the cost replace
    the Gaussian paths (default: 64 if the cost has no gradient, otherwise off)."""
    longest: PositiveInt = None
    """Length in pixels to which the longer side of each image is resized."""
    max_memory: PositiveFloat = None
    """Approximate memory limit of the path optimisation, in gigabytes (default: no limit)."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions(metaclass=OptionsType):
    """Options of the privacy calculator."""

    noise: OptionalFloat = None
    """Noise multiplier of each DP-SGD step, for `feller audit calculator`."""
    rate: OptionalFloat = None
    """Sampling rate, the probability that a step uses a given row, for `feller audit calculator`."""
    steps: OptionalInt = None
    """Number of training steps, for `feller audit calculator`."""
    delta: OptionalFloat = None
    """Delta of the (epsilon, delta) guarantee, for `feller audit calculator` (default: 1e-5)."""
    rows_per_user: OptionalInt = None
    """Maximum number of rows of a user, for `feller audit calculator`; adds the epsilon of all rows of a user."""
    epsilon: OptionalFloat = None
    """Privacy budget, for `feller audit calculator` to choose batch size and steps; with --rows and --examples."""
    rows: OptionalInt = None
    """Number of training rows, for `feller audit calculator --epsilon`."""
    examples: OptionalInt = None
    """Number of examples that training can process, batch size times steps, for `feller audit calculator --epsilon`."""
