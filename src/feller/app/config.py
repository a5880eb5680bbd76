"""Frozen config classes, one per command: flags, keyword arguments of the Python function, and defaults.

This module does not import torch, so `feller COMMAND --help` is fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from feller.app.commands.flag_types import (
    BaseRunArgument,
    Choices,
    Code,
    Conditions,
    Costs,
    DataArgument,
    DataArguments,
    DataOption,
    DataPath,
    Guidance,
    ImportArgument,
    LargeInt,
    Limits,
    Names,
    Numbers,
    OptionalFloat,
    OptionalInt,
    OptionalText,
    PositiveFloat,
    PositiveInt,
    RecipeFields,
    ReportKind,
    Rewards,
    RowsInMemory,
    RunArgument,
    RunOrWord,
    TableSource,
    Targets,
    aliases,
    as_reward_texts,
    as_texts,
    code_of,
    normalize_fields,
)
from feller.app.option_groups import (
    ConditionOptions,
    DataLoadingOptions,
    DocumentOptions,
    FlowOptions,
    HistoryOptions,
    InfillOptions,
    LoRAOptions,
    MeasurementOptions,
    OptionsType,
    PlanOptions,
    PrintingOptions,
    PrivacyOptions,
    RunFolderOptions,
    RunOptions,
    SampleFileOptions,
    SamplerOptions,
    SearchOptions,
    SpeechOptions,
    TrainingOptions,
    TransportOptions,
    WorkOptions,
)
from feller.core.errors import UsageError

CALCULATOR = "calculator"
"""Value of `feller audit RUN` that starts the privacy calculator instead of auditing a run."""


def single_values(conditions: Mapping[str, object] | None) -> dict[str, str]:
    """Return the conditions as strings, one value per name.

    Raises:
        UsageError: If a condition has several values.
    """
    multiples = [(name, value) for name, value in (conditions or {}).items() if isinstance(value, list | tuple)]
    for name, value in multiples:
        remedy = "Give one value; several values and ranges are supported only when sampling a table"
        raise UsageError(argument=f"given {name}", expected="one value", found=str(value), remedy=remedy)
    return {str(name): str(value) for name, value in (conditions or {}).items()}


@dataclass(frozen=True, kw_only=True)
class SampleConfig(metaclass=OptionsType):
    """Sample from RUN (default: the newest run)."""

    folder: RunArgument = None
    """Run folder."""
    n: Annotated[LargeInt, aliases("-n")] = None
    """Number of samples, also as 1e6. Default: 64; 9 for documents; 1 for speech or to fill in text; the
    number of images in a folder that is given as a condition. Not for
    bridges, which transport each sample of the population once."""
    given: Conditions = None
    """Conditions, or observed parts of the data, as KEY=VALUE. Class labels that are not given are sampled with their
    training frequencies; other conditions are left open. All unobserved parts are sampled jointly. A column of a table
    also takes a range, as in age=30..40, or several values, each in its own KEY=VALUE. An image condition takes a file,
    or a folder with one image for each sample."""
    guidance: Guidance = None
    """Classifier-free guidance scale: 0 for the unconditional model, 1 for the conditional model; larger values follow
    the conditions more closely (default: 1; 1.7 for speech). Or a scale for each of several conditions, as KEY=SCALE,
    in the order in which they are added."""
    seed: int = 0
    """Random seed."""
    output: Annotated[SampleFileOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SampleFileOptions)
    """Options of the sample files."""
    sampler: Annotated[SamplerOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SamplerOptions)
    """Sampler options: solver and number of function evaluations, or token sampling."""
    infill: Annotated[InfillOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=InfillOptions)
    """Options for filling in missing text or table cells."""
    document: Annotated[DocumentOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=DocumentOptions)
    """Options for generating documents."""
    speech: Annotated[SpeechOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SpeechOptions)
    """Options for generating speech; see also --edit."""
    bridge: Annotated[TransportOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=TransportOptions)
    """Options for transporting samples along a bridge."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(metaclass=OptionsType):
    """Fit a model to DATA and write a run folder.

    Fields of the recipe are flags too, such as --train.lr 1e-4; `feller fit DATA --recipe NAME --help` lists them all.
    """

    data: DataArgument = None
    """Data set: a table of points, coordinates or angles; a folder of images; crystals (.cif, or a column of a .csv),
    molecules (.xyz, .sdf) or protein chains (.pdb, .jsonl), as a file or a folder of files; text (.txt, .jsonl, or a
    column of a .csv); documents (a folder of images with captions, or .jsonl); speech (a folder of recordings with
    texts); arrays (.npz, .npy); shards for data larger than memory ('train-{000..099}.tar', 'train-*.tar', or a folder
    of .tar or .parquet); a table of a database ('sqlite:///shop.db#orders'); or example:NAME."""
    recipe: Annotated[
        Code,
        Choices(
            ("auto",),
            (
                "feller.models.recipes.registry:RECIPES",
                "feller.models.recipes.registry:STARTED_RECIPES",
                "feller.models.recipes.registry:SECOND_STAGES",
                "feller.models.recipes.registry:FLOW_MAPS",
            ),
        ),
    ] = None
    """Recipe name, or file.py:FUNCTION for a custom recipe (default: chosen from the data)."""
    size: Annotated[OptionalText, Choices(registries=("feller.models.recipes.recipe:SIZES",))] = None
    """Size of the network and the training budget: tiny, small or base (default: small); for images also large or
    xl."""
    target: Targets = ()
    """Column or property to predict; trains a regressor instead of a generator. A target is a numeric column, a column
    next to the CIF column of a .csv, a property in XYZ comments or SDF records, or `label` for the class. For a table
    with categorical columns, a generator is trained anyway, and the report predicts this column from the others."""
    seed: OptionalInt = None
    """Random seed (default: 0)."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """Report to write: full, quick or none (default: a report that takes at most a fifth of the training time, up
    to two minutes)."""
    fields: RecipeFields = None
    """Values of recipe fields by name, such as {"train.batch_size": 64}."""
    training: Annotated[TrainingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=TrainingOptions)
    """Options for training length, initial weights and callbacks."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Options of the run folder."""
    data_loading: Annotated[DataLoadingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=DataLoadingOptions)
    """Data loading options (default: inferred from the data)."""
    privacy: Annotated[PrivacyOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrivacyOptions)
    """Options for differential privacy, which --epsilon or --noise enables."""
    printing: Annotated[PrintingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrintingOptions)
    """Options for printing results and progress."""

    def __post_init__(self) -> None:
        normalize_fields(self, target=as_texts, recipe=code_of("recipe"))

    @property
    def recipe_name(self) -> str | None:
        return None if self.recipe is None else str(self.recipe)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(metaclass=OptionsType):
    """Evaluate samples of RUN (default: the newest) against real data and write the report."""

    folder: RunArgument = None
    """Run folder."""
    data: DataOption = None
    """Real data to compare with (default: the held-out examples of the fit)."""
    train: RowsInMemory = None
    """Training rows, for a run that stores no copy of them; needs held-out rows in `data` as well. Adds the metrics of
    copied training rows and of membership inference."""
    samples: TableSource = None
    """Samples to evaluate instead of newly generated samples: a file or folder written by `feller sample`. The report
    is then written to report-NAME.html in the run, as with --data."""
    n: Annotated[PositiveInt, aliases("-n")] = None
    """Number of samples to generate, or of examples to evaluate if the model generates no samples (default: as many as
    the metrics need)."""
    seed: int = 0
    """Random seed."""
    season: PositiveInt = None
    """Steps of a season of time series, for the seasonal naive forecast (default: found in the training data)."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""


@dataclass(frozen=True, kw_only=True)
class SteerConfig(metaclass=OptionsType):
    """Steer samples of RUN (default: the newest) toward a reward, or solve an inverse problem, without training.

    Needs either --reward, or --observe and --operator.
    """

    folder: RunArgument = None
    """Run folder."""
    reward: Rewards = ()
    """Reward: a function of the samples as file.py:FUNCTION, the run of a regressor, or a name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. NUMBER * before a reward scales the reward; <= NUMBER, >= NUMBER or
    == NUMBER after a reward replaces it by minus the square of the amount by which this condition is violated. Several
    rewards are added."""
    n: Annotated[PositiveInt, aliases("-n")] = None
    """Number of samples, each optimised separately (default: 16); with --observe, the number of samples per
    measurement (default: 4). With --method smc, at most the particles (default: all)."""
    out: OptionalText = None
    """Output path of the samples, as for `feller sample`."""
    overwrite: bool = False
    """Replace the file in --out."""
    steps: PositiveInt = None
    """Maximum number of optimisation steps per sample (default: 20 with --reward, 100 with --observe); number of
    sampling steps of --method smc (default: 32)."""
    given: Conditions = None
    """Conditions, or observed parts of the data, as KEY=VALUE; see `feller sample`."""
    seed: int = 0
    """Random seed; optimisation starts from the samples of this seed."""
    flow: Annotated[FlowOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FlowOptions)
    """Guidance and precision of the flow."""
    measurement: Annotated[MeasurementOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=MeasurementOptions)
    """Options of the inverse problem."""
    search: Annotated[SearchOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SearchOptions)
    """Options of the reward search."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""

    def __post_init__(self) -> None:
        normalize_fields(self, reward=as_reward_texts)

    @property
    def rewards(self) -> tuple[str, ...]:
        """Rewards as recorded strings."""
        return as_reward_texts(self.reward)


@dataclass(frozen=True, kw_only=True)
class TuneConfig(metaclass=OptionsType):
    """Fine-tune the model of RUN on a reward, keeping its samples diverse.

    Fields of the recipe are flags too, such as --train.lr 1e-4 or --objective.steps 60; `feller tune RUN --method NAME
    --help` lists them all.
    """

    folder: BaseRunArgument = None
    """Run folder of the base model, which is not changed (default: the newest)."""
    reward: Rewards = ()
    """Reward: a function of the samples as file.py:FUNCTION, the run of a regressor, or a name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. NUMBER * before a reward scales the reward; <= NUMBER, >= NUMBER or
    == NUMBER after a reward replaces it by minus the square of the amount by which this condition is violated. Several
    rewards are added."""
    strength: float = 1.0
    """Reward scale: increase of the log-likelihood, in nats, per unit of reward."""
    method: Annotated[OptionalText, Choices(registries=("feller.models.recipes.fine_tuning_methods:METHODS",))] = None
    """Fine-tuning method: adjoint-matching (default), whose target is the distribution of the base model times
    exp(strength * reward); policy-gradient, for rewards without a gradient; or a baseline: continuous-adjoint,
    discrete-adjoint, draft, refl, or filtered (default for tokens)."""
    steps: PositiveInt = None
    """Number of fine-tuning rounds, in each of which new samples are generated as training data (default: 100)."""
    minutes: PositiveFloat = None
    """Fine-tuning time in minutes, instead of --steps."""
    seed: int = 0
    """Random seed."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """Report to write: full, quick or none (default: a report that takes at most a fifth of the fine-tuning time,
    up to two minutes)."""
    lora: Annotated[LoRAOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=LoRAOptions)
    """Low-rank adaptation instead of the training of all weights."""
    conditions: Annotated[ConditionOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ConditionOptions)
    """Conditions and guidance during fine-tuning."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Options of the run folder."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""

    def __post_init__(self) -> None:
        normalize_fields(self, reward=as_reward_texts)

    @property
    def rewards(self) -> tuple[str, ...]:
        """Rewards as recorded strings."""
        return as_reward_texts(self.reward)


@dataclass(frozen=True, kw_only=True)
class BridgeConfig(metaclass=OptionsType):
    """Fit a Schrödinger bridge between populations A, B, ... that minimises control cost plus your state cost.

    Fields of the solver are flags too, such as --train.steps 3000, or --nfe 420 for the steps per path (default: 210);
    `feller bridge A B --cost TEXT --help` lists them all.
    """

    data: DataArguments = ()
    """Two or more populations in order of time: files with numeric rows (.csv, .npz, .npy, .las, ...) or folders of
    images; or example:NAME."""
    times: Numbers = ()
    """Observation time of each population, such as 0 24 48 (default: equally spaced)."""
    cost: Annotated[Costs, Choices(registries=("feller.app.workflows.bridges.cost_specs:COST_NAMES",))] = ()
    """State cost: a function of (x, t) or (x, t, population) as file.py:FUNCTION, with t in [0, 1]; an image whose
    black pixels are walls; or congestion (avoid crowds), entropy (spread out), density (stay near the data),
    surface=FILE (stay near the surface) or valleys=FILE (stay near the surface, at low heights). NUMBER * before a cost
    scales the cost. Several costs are added."""
    frame: Numbers = ()
    """Extent of the wall image in data units: LEFT RIGHT BOTTOM TOP (default: one unit per pixel, from (0, 0))."""
    noise: OptionalFloat = None
    """Standard deviation accumulated by the uncontrolled process over the whole time, in data units (for images, pixel
    values from -1 to 1); 0 for a deterministic bridge. Default: half the standard deviation within the populations."""
    rounds: PositiveInt = None
    """Number of drifts to fit, alternating forward and backward; rounded up to an odd number (default: 7)."""
    minutes: PositiveFloat = None
    """Training time in minutes, instead of --rounds."""
    growth: PositiveFloat = None
    """Unbalanced transport: penalty for creating or destroying mass, in units of the median squared distance; 1 is
    typical, and smaller values allow more changes of mass."""
    seed: int = 0
    """Random seed."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Options of the run folder."""
    work: Annotated[WorkOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=WorkOptions)
    """Options for compute and memory."""
    printing: Annotated[PrintingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrintingOptions)
    """Options for printing results and progress."""

    def __post_init__(self) -> None:
        normalize_fields(self, cost=as_reward_texts, times=tuple, frame=tuple)

    @property
    def costs(self) -> tuple[str, ...]:
        """Costs as recorded strings."""
        return as_reward_texts(self.cost)


@dataclass(frozen=True, kw_only=True)
class AuditConfig(metaclass=OptionsType):
    """Audit what RUN (default: the newest) reveals about individual rows or persons: privacy bounds and attacks.

    Privacy calculator, without a run: `feller audit calculator --noise 1.1 --rate 0.01 --steps 10000 --delta 1e-6`, or
    `feller audit calculator --epsilon 3 --rows 30000 --examples 200000` to choose batch size and steps.
    """

    folder: Annotated[RunOrWord, Choices((CALCULATOR,))] = None
    """Run folder, or `calculator` to compute a privacy guarantee without a run."""
    data: DataOption = None
    """Training rows (default: the data of the fit)."""
    show: Annotated[int, Limits(0.0)] = 10
    """Number of rows to list, starting with the most exposed row."""
    shadows: OptionalInt = None
    """Number of shadow models for membership inference; each costs a full training run."""
    canaries: OptionalInt = None
    """Number of canaries, examples inserted into one additional training run to measure memorisation."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """Report to write: full, quick or none. Also limits the time of attacks that train no model (default: a fifth of
    the training time, up to two minutes)."""
    seed: int = 0
    """Random seed."""
    plan: Annotated[PlanOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PlanOptions)
    """Options of the privacy calculator, which needs no run."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""


@dataclass(frozen=True, kw_only=True)
class SchemaConfig(metaclass=OptionsType):
    """Edits of the schema of a table, for `feller data schema`."""

    rare: PositiveInt = None
    """Merge values of categorical columns that occur in fewer rows than this into `other`. Values in rules, and values
    of --public columns, are kept."""
    drop: Targets = ()
    """Columns to skip: real tables may contain them, but models and samples lack them."""
    codes: Targets = ()
    """Columns whose numbers are categorical codes."""
    identifier: Targets = ()
    """Columns that identify rows or people: not modelled, samples get consecutive numbers."""
    text: Targets = ()
    """Columns of free text: not modelled, left empty."""
    public: Targets = ()
    """Columns whose values are public facts, for example from a code book: no warnings about them."""
    target: OptionalText = None
    """Column that the report predicts from the others."""
    clip: bool = False
    """Replace cells that the schema does not allow by the nearest allowed value, instead of raising an error."""
    histories: Annotated[HistoryOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=HistoryOptions)
    """Options of tables with several rows per person."""

    def __post_init__(self) -> None:
        normalize_fields(self, **dict.fromkeys(("drop", "codes", "identifier", "text", "public"), as_texts))


@dataclass(frozen=True, kw_only=True)
class ExportConfig(metaclass=OptionsType):
    """Export the network of RUN (default: the newest) for other programs, or the whole model as a folder."""

    folder: RunArgument = None
    """Run folder."""
    to: Annotated[OptionalText, Choices(registries=("feller.app.workflows.export:EXPORT_FORMATS",))] = None
    """Format: torch-export (a .pt2 file) or onnx, each with a .json file (such as export.onnx.json) that documents
    the inputs, the outputs and sampling; huggingface, a folder that `feller sample` can open; for imported folders,
    pretrained, which their package opens, or peft, the adapter of `feller tune --rank`."""
    out: OptionalText = None
    """Output file or folder (default: export.pt2, export.onnx, huggingface, pretrained or peft in the run)."""
    overwrite: bool = False
    """Replace the file in --out and its .json file."""
    guidance: Annotated[str, Choices(("input",))] = "1"
    """Classifier-free guidance scale built into the network (1 for the conditional model), or `input` to make it an
    input of the network."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """Options for loading the run and printing results."""

    @property
    def form(self) -> str:
        """Export format.

        Raises:
            UsageError: If `to` is None.
        """
        if self.to is None:
            raise UsageError(expected="torch-export, onnx, huggingface, pretrained or peft", argument="to")
        return self.to


@dataclass(frozen=True, kw_only=True)
class ImportConfig(metaclass=OptionsType):
    """Create a run from a folder that save_pretrained wrote, or from your own network.

    Folders of diffusers and transformers say all that is needed; nothing in them is executed, and nothing is
    downloaded. Your own network is file.py:FUNCTION, which returns a network that maps (x, t) to the velocity; pass the
    file again with --code. The run then works with `sample`, `steer`, `tune`, `evaluate` and `export`.
    """

    place: ImportArgument
    """Folder of a pipeline of diffusers (Stable Diffusion 1, 2, XL and 3, FLUX, DiT, DDPM), of a network with its
    scheduler_config.json, or of a language model of transformers (GPT-2, Llama, Mistral, Qwen, BERT, DistilBERT,
    ModernBERT, LLaDA); or function that builds the network, as file.py:FUNCTION, which returns a torch.nn.Module or a
    plain function of tensors."""
    modality: OptionalText = None
    """Modality and shape of the data: points:2, points:x,y, images:28x28 or images:32x32x3; append /LEVELS if white is
    not 255 (default: that of --data, in the units of the data files, or that of the folder)."""
    data: DataPath = None
    """Training data, for `evaluate`: a file, a folder or example:NAME."""
    weights: OptionalText = None
    """File with the weights, .safetensors (default: the weights that the function returns)."""
    predicts: Annotated[str, Choices(registries=("feller.app.workflows.import_network:PREDICTIONS",))] = "velocity"
    """Quantity that the network predicts: velocity, data (x_1), source (the noise, epsilon) or score."""
    schedule: Annotated[str, Choices(registries=("feller.app.workflows.import_network:SCHEDULES",))] = "linear"
    """Noise schedule with which the network was trained: linear, cosine, linear-vp or vp."""
    times: Numbers = (0.0, 1.0)
    """Values of the network's time input at the noise and at the data: 1 0 if time runs from data to noise, 999 0 if
    the network counts 1,000 diffusion steps."""
    classes: Names = ()
    """Names of the classes, in the order of the indices in the network's third argument; or the number of classes."""
    null: OptionalInt = None
    """Index of the unconditional class, if the network was trained with condition dropout; enables --guidance."""
    out: OptionalText = None
    """Run folder (default: a new one under runs/)."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
