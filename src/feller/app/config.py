"""One frozen config for each command: its flags, the arguments of the Python function, and their defaults.

Nothing here imports torch, so that `feller COMMAND --help` answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from feller.app.commands.flag_types import (
    BaseRunArgument,
    Callbacks,
    Choices,
    Code,
    CodePath,
    Conditions,
    Costs,
    DataArgument,
    DataArguments,
    DataOption,
    FileAndText,
    KeyValues,
    LargeInt,
    Limits,
    NumberOrWord,
    Numbers,
    OptionalFloat,
    OptionalInt,
    OptionalText,
    PositiveFloat,
    PositiveInt,
    RawText,
    RecipeFields,
    ReportKind,
    Rewards,
    RowsInMemory,
    RunArgument,
    RunOrWord,
    RunStart,
    SchemaSource,
    TableSource,
    Targets,
    Verbose,
    aliases,
    as_reward_texts,
    as_run_path,
    as_texts,
    code_of,
    flag_name,
    normalize_fields,
    plain_path,
)
from feller.core.errors import UsageError

ADAPTIVE = "adaptive"
"""A clip that follows the middle of the lengths of gradients."""
CALCULATOR = "calculator"
"""The word of `feller audit` that is no run."""


def single_values(conditions: Mapping[str, object] | None) -> dict[str, str]:
    """Return what is given by name, in words, where each has one value.

    Raises:
        UsageError: If one has several.
    """
    several = [(name, value) for name, value in (conditions or {}).items() if isinstance(value, list | tuple)]
    for name, value in several:
        remedy = "Name one; several and ranges are of columns of a table that is sampled"
        raise UsageError(argument=f"given {name}", expected="one value", found=str(value), remedy=remedy)
    return {str(name): str(value) for name, value in (conditions or {}).items()}


class OptionsType(type):
    """Makes configs of options by their names, those of their groups too, and hides what help need not show."""

    if not TYPE_CHECKING:  # type checkers know the options of each class

        def __call__(cls, *args: Any, **options: Any) -> Any:
            """Return a config; errors as of `config_of`."""
            from feller.app.options import check_types, config_of

            own = cls.__dataclass_fields__
            if args or not all(name in own for name in options):
                return config_of(cls, *args, **options)
            check_types(cls, options)
            return super().__call__(**options)

    def __dir__(cls) -> list[str]:
        """List the names of options and of what people call."""
        return [name for name in super().__dir__() if not name.startswith("__") or name == "__init__"]


@dataclass(frozen=True, kw_only=True)
class PrintingOptions(metaclass=OptionsType):
    """Of what is printed."""

    json: bool = False
    """Print one JSON object, last on standard output."""
    verbose: Verbose = None
    """Progress display; by default on a terminal and in a notebook."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(metaclass=OptionsType):
    """Of how a run is opened, and of what is printed."""

    code: CodePath = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print one JSON object, last on standard output."""
    verbose: Verbose = None
    """Progress display; by default on a terminal and in a notebook."""


@dataclass(frozen=True, kw_only=True)
class RunFolderOptions(metaclass=OptionsType):
    """Of the run folder that is written."""

    out: OptionalText = None
    """The run folder; by default a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out, or the newest, from where it stopped; a bridge after its last round."""
    overwrite: bool = False
    """Replace the run in --out."""


@dataclass(frozen=True, kw_only=True)
class SampleFileOptions(metaclass=OptionsType):
    """Of the files that samples go to."""

    out: OptionalText = None
    """Where they go; the ending decides the form: .npz for all data, and by their kind .csv, .tsv, .parquet, .npy,
    or .txt, .jsonl, .cif, .xyz, .sdf, .pdb; without an ending a folder. By default samples/ in the run."""
    overwrite: bool = False
    """Replace the file of --out, or shards that were asked for otherwise."""
    shard_size: LargeInt = None
    """Write shards of so many samples, and a manifest of them: FOLDER/samples-00000.npz and so on for --out FOLDER,
    FOLDER/NAME-00000.csv for --out FOLDER/NAME.csv, or with {shard} where the number goes, without an ending for
    folders; by default shards/ in the run. The same command goes on with what was killed."""


@dataclass(frozen=True, kw_only=True)
class InfillOptions(metaclass=OptionsType):
    """Of what is filled in, in place of new samples."""

    template: RawText = None
    """Text to fill in: ___ stands for what is missing, one underscore a symbol, as does all that follows; \\n is a new
    line."""
    complete: TableSource = None
    """Table whose gaps are filled, in place of -n new rows: cells that are empty, or ? or *, unless their column can be
    that."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(metaclass=OptionsType):
    """Of how samples are drawn."""

    nfe: PositiveInt = None
    """Network calls per sample; a midpoint step is two."""
    solver: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:SOLVERS",))] = None
    """euler, midpoint, heun, rk4, dopri5, euler-maruyama or ancestral."""
    superpose: OptionalText = None
    """jump=SHARE, such as jump=0.5: how much of the process jumps and how much flows, for models that can do both."""
    compile: bool = False
    """Compile the network first, which pays for many samples only; needs a C++ compiler."""
    temperature: Annotated[OptionalFloat, Limits(0.0)] = None
    """Divides what the network says of symbols: below 1 is safer, above 1 is bolder; by default 1, or 0.5 where words
    are filled in."""
    top_k: PositiveInt = None
    """Draw symbols among so many of the likeliest."""
    top_p: OptionalFloat = None
    """Draw symbols among the likeliest that hold this share of the probability."""
    order: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:ORDERS",))] = None
    """Which masked symbols are revealed first: confidence or entropy; by default chance decides."""
    rates: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:RATES",))] = None
    """Rates of the jumps of symbols: kinetic-optimal or reversal; by default those of the model. bits_per_token bounds
    samples of reversal, for models whose source is no mask."""


@dataclass(frozen=True, kw_only=True)
class DocumentOptions(metaclass=OptionsType):
    """What documents alone take."""

    prompt: RawText = None
    """Words whose picture is drawn, with <image:FILE>, <break>, <mask> and <infill> where they are meant;
    "<image:cat.png> <infill>" asks for a caption. A backslash before < makes it plain."""
    mask: OptionalText = None
    """A picture that is white where the one of --prompt is drawn anew."""
    edit: FileAndText = ()
    """Of documents: a picture and an instruction, whose result is drawn. Of speech: a sound, and in quotes what is said
    in it, that is to say --text instead; what both say is kept."""
    ask: FileAndText = ()
    """A picture and a question, which is answered."""
    memory: OptionalText = None
    """What the model looks up; a file or folder of documents, or what `feller data memory` built."""
    documents: OptionalInt = None
    """From --memory, in front of what is asked; by default 2, and no more than there is room for."""
    picture_guidance: OptionalFloat = None
    """Of --edit: how much the picture counts, where --guidance says how much the words do."""
    min_p: OptionalFloat = None
    """Of pictures that are guided: symbols may come that are at least so many times as likely as the
    likeliest; by default 0.1, and 0 lets all come."""
    contrast: OptionalText = None
    """Of pictures: K or K:ALPHA, contrastive decoding among symbols at least ALPHA times as likely as the
    K-th; with --guidance beside it, each of both draws every other document."""
    best_of: PositiveInt = None
    """Of pictures: draw so many for each, and keep the one that fits its words best."""


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(metaclass=OptionsType):
    """What speech alone takes."""

    text: RawText = None
    """What is to be said."""
    voice: FileAndText = ()
    """A sound in whose voice --text is said; behind it, in quotes, what is said in it, unless that stands in
    a .txt beside it or can be heard by Whisper (extra `judges`). So for all sounds that are named."""
    denoise: FileAndText = ()
    """A sound of which --span is said again, without what was heard there."""
    span: RawText = None
    """FROM:TO in seconds, such as 1.2:2.0."""
    style: FileAndText = ()
    """A sound in whose voice and manner --content is said."""
    content: FileAndText = ()
    """A sound that is said again as it was timed, in any voice, or that of --style."""
    speed: OptionalFloat = None
    """So many times as fast as the model would."""
    durations: OptionalText = None
    """A table of how long each phone of --text lasts, as lies beside what was said before."""
    spell: bool = False
    """Say words that the dictionary lacks letter by letter."""
    language: OptionalText = None
    """In other phones than those of English: the language of --text, as eSpeak names it, such as de."""
    vocoder: OptionalText = None
    """What makes sounds of log mels: griffin-lim or griffin-lim:ITERATIONS, a run of the recipe `vocoder`,
    or a folder with the weights of a HiFi-GAN."""


@dataclass(frozen=True, kw_only=True)
class TransportOptions(metaclass=OptionsType):
    """What the run of a bridge alone takes."""

    from_data: Annotated[OptionalText, flag_name("--from")] = None
    """What is pushed through it, a file or folder like those that were bridged; by default the
    population where it begins."""
    backward: bool = False
    """Go back in time."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig(metaclass=OptionsType):
    """Draw samples from RUN, the newest by default."""

    folder: RunArgument = None
    """The run folder."""
    n: Annotated[LargeInt, aliases("-n")] = None
    """Number of samples, also as 1e6; by default 64, or 9 of documents, or 1 where something is filled in or said. A
    bridge takes none: it pushes each member once."""
    given: Conditions = None
    """Conditions or parts of the data, KEY=VALUE; those not given are drawn: conditions as often as in the training
    data, parts beside the others. Of a table also ranges, age=30..40, and a column twice for one of several cells."""
    guidance: OptionalFloat = None
    """1 is the plain conditional model, 0 the unconditional, more sharpens; by default 1, or 1.7 of speech."""
    seed: int = 0
    """Of all randomness."""
    output: Annotated[SampleFileOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SampleFileOptions)
    """Where samples go."""
    sampler: Annotated[SamplerOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SamplerOptions)
    """How samples are drawn: states of a process in time, and symbols of texts, documents, sequences."""
    infill: Annotated[InfillOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=InfillOptions)
    """What is filled in, in place of new samples."""
    document: Annotated[DocumentOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=DocumentOptions)
    """What is asked of a run of documents, beside --edit."""
    speech: Annotated[SpeechOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SpeechOptions)
    """What is asked of a run of speech, beside --edit."""
    bridge: Annotated[TransportOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=TransportOptions)
    """What is asked of the run of a bridge."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""


@dataclass(frozen=True, kw_only=True)
class DataLoadingOptions(metaclass=OptionsType):
    """How data are read."""

    longest: PositiveInt = None
    """Bring images to this longer side, by default at most 64, of documents 32; leave out chains of more residues, by
    default 128, and crystals and molecules of more atoms, by default 64, and sounds of more seconds, by default 30;
    learn texts of so many symbols, by default 128."""
    space: Annotated[OptionalText, Choices(registries=("feller.data.points.named_spaces:NAMES",))] = None
    """Where rows of numbers lie: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a mesh (.obj .off)."""
    project: bool = False
    """Move points beside --space to the nearest on it, instead of refusing them."""
    vocabulary: Annotated[OptionalText, Choices(registries=("feller.data.text.dataset:NAMES",))] = None
    """Symbols of a text: characters, bytes, subwords or subwords:NUMBER; by default characters, where there are few."""
    tokenizer: Annotated[
        OptionalText, Choices(registries=("feller.app.workflows.fitting.auxiliary_networks:TOKENIZERS",))
    ] = None
    """Of documents: the run of a tokeniser of their pictures; or palette, where these have few colours, tiles, where
    small squares recur in them, or learned: one is trained first. By default tiles if all is made of few, else that."""
    modality: Code = None
    """A kind of data of your own, as file.py:Class, which reads DATA; see docs/extend.md."""
    schema: SchemaSource = None
    """File that says what is public about a table: its columns, and which cells they may have; `feller data schema`
    writes one."""

    def __post_init__(self) -> None:
        normalize_fields(self, modality=code_of("modality"), schema=plain_path)


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions(metaclass=OptionsType):
    """Of private training."""

    epsilon: OptionalFloat = None
    """Protect each row: what the model tells depends on no single one but by a factor of e^EPSILON."""
    delta: Annotated[NumberOrWord, Choices(("auto",))] = None
    """Chance that --epsilon does not cover, or auto: min(1e-5, 1 / rows^1.1)."""
    noise: OptionalFloat = None
    """Noise of private training in clip norms, instead of --epsilon."""
    stop_at_epsilon: OptionalFloat = None
    """With --noise: train no further than this epsilon."""
    clip: Annotated[NumberOrWord, Choices((ADAPTIVE,))] = None
    """Longest gradient of one row in private training, 1 by default; or adaptive, which follows the middle of their
    lengths by a noisy count."""
    audit: KeyValues = ()
    """fisher=ROWS keeps account of what each step of private training tells about so many rows, for `feller audit`."""
    unsafe_seed: OptionalInt = None
    """Draw private noise from a seed, so that it can be repeated, and taken away by whoever knows it: for tests."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(metaclass=OptionsType):
    """Of the training, beside the recipe."""

    minutes: PositiveFloat = None
    """How long to train; by default as the recipe says."""
    steps: PositiveInt = None
    """How many steps to train, instead of minutes."""
    start_from: RunStart = None
    """Run of an older model: its weights are the first; `reflow` and `distil` learn from it."""
    callbacks: Callbacks = ()
    """Hear of the steps of a training, and may stop it."""

    def __post_init__(self) -> None:
        normalize_fields(self, start_from=as_run_path, callbacks=tuple)


@dataclass(frozen=True, kw_only=True)
class FitConfig(metaclass=OptionsType):
    """Fit a model to DATA and write a run folder.

    Fields of the recipe follow by their own names, such as --train.lr 1e-4; `feller fit DATA --recipe NAME --help`
    shows them all.
    """

    data: DataArgument = None
    """A table of points, places or angles; a folder of images; crystals (.cif, or a column of a .csv);
    molecules (.xyz, .sdf); protein chains (.pdb, .jsonl); a folder of these three; text (.txt, .jsonl, or a column of
    a .csv); documents (a folder of pictures with captions, or .jsonl); speech (a folder of recordings with texts);
    arrays (.npz, .npy); shards that do not fit in memory ('train-{000..099}.tar', 'train-*.tar', or a folder of .tar or
    .parquet); or example:NAME."""
    recipe: Annotated[
        Code,
        Choices(("auto",), ("feller.models.recipes.registry:RECIPES", "feller.models.recipes.registry:SECOND_STAGES")),
    ] = None
    """A recipe's name, or file.py:FUNCTION for your own; by default chosen by the data."""
    size: Annotated[OptionalText, Choices(registries=("feller.models.recipes.recipe:SIZES",))] = None
    """tiny, small or base: of the network and the budget; small by default."""
    target: Targets = ()
    """What is to be told of the data, instead of drawing such: numbers that XYZ comments, SDF records, columns of
    numbers or those beside one of CIF give; or label, the class. Of a table with words, which is drawn all the same,
    the column that the report tells from the others."""
    seed: OptionalInt = None
    """Of all randomness; 0 by default."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """full, quick or none; by default it takes a fifth of the training's time, and at most two minutes."""
    fields: RecipeFields = None
    """Fields of the recipe by their names, such as {"train.batch_size": 64}."""
    training: Annotated[TrainingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=TrainingOptions)
    """How long to train, and from where."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Where the run goes."""
    data_loading: Annotated[DataLoadingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=DataLoadingOptions)
    """How the data are read; by default as they themselves say."""
    privacy: Annotated[PrivacyOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrivacyOptions)
    """Private training, in which no single row can be seen: --epsilon asks for it."""
    printing: Annotated[PrintingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrintingOptions)
    """What is printed."""

    def __post_init__(self) -> None:
        normalize_fields(self, target=as_texts, recipe=code_of("recipe"))

    @property
    def recipe_name(self) -> str | None:
        """The recipe in words, as it is recorded."""
        return None if self.recipe is None else str(self.recipe)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(metaclass=OptionsType):
    """Compare samples of RUN, the newest by default, with real data, and write its report."""

    folder: RunArgument = None
    """The run folder."""
    data: DataOption = None
    """Real data to compare with; by default those that the fit kept back."""
    train: RowsInMemory = None
    """Rows that the run learned from, beside data that it did not, where it keeps no copy: then copies and membership
    are measured, too."""
    samples: TableSource = None
    """Judge these samples, a file or a folder as `feller sample` writes them, instead of drawing new ones; the report
    is then called after them, report-NAME.html in the run, as it is with --data."""
    n: Annotated[PositiveInt, aliases("-n")] = None
    """Samples that are drawn, or other examples that are measured; by default as many as are usual."""
    seed: int = 0
    """Of all randomness."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""


@dataclass(frozen=True, kw_only=True)
class MeasurementOptions(metaclass=OptionsType):
    """Of an observation."""

    observe: OptionalText = None
    """What was measured: a picture, or numbers in an .npy or .npz, of one example or several."""
    operator: Annotated[OptionalText, Choices(registries=("feller.app.workflows.steering.measurements:OPERATORS",))] = (
        None
    )
    """How that came about: inpaint, pool=FACTOR, blur=WIDTH, unknown-blur, grey, sums=COUNT, magnitudes,
    file.py:FUNCTION, or file.py:FORWARD,ADJOINT for a linear one."""
    mask: OptionalText = None
    """What is to be filled, for inpaint: white in a picture, 1 or True in an array."""
    noise: Annotated[float, Limits(0.0)] = 0.0
    """Standard deviation of the measurements, in the units of the data."""
    method: Annotated[str, Choices(registries=("feller.control.inverse.inverse_methods:METHODS",))] = "source"
    """How observations are explained: source (search), or by guidance pigdm, ot-ode, dps; or red-diff."""
    scale: PositiveFloat = None
    """Of guidance; the usual 1 is safe, and 3 is often nearer to the truth (10 and 20 for dps)."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(metaclass=OptionsType):
    """Of the search for a reward."""

    nfe: PositiveInt = None
    """Network calls of each solve for a reward; by default 12, which is six midpoint steps."""
    solver: Annotated[OptionalText, Choices(registries=("feller.sampling.sampler_config:VELOCITY_SOLVERS",))] = None
    """euler, midpoint, heun or rk4."""
    prior: Annotated[str, Choices(("shell", "none"))] = "shell"
    """What keeps sources like those that the model knows: shell, they keep their length; radius=NUMBER, their length
    costs so many times the nats of its law; or none."""
    optimize: Annotated[str, Choices(registries=("feller.app.workflows.steering.model_flow:SEARCH_VARIABLES",))] = (
        "source"
    )
    """What a search for a reward moves: source, condition (what the network makes of the conditions), or both."""


@dataclass(frozen=True, kw_only=True)
class SteerConfig(metaclass=OptionsType):
    """Draw samples from RUN, the newest by default, that are as wished, or explain an observation, without training.

    Either --reward, or --observe and --operator.
    """

    folder: RunArgument = None
    """The run folder."""
    reward: Rewards = ()
    """What is wished for: file.py:FUNCTION of samples, the run of a regressor, or by name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. Each may have NUMBER * before it, or <= NUMBER, >= NUMBER, == NUMBER
    behind it. Several add up."""
    n: Annotated[PositiveInt, aliases("-n")] = None
    """Number of samples, 16 by default, each with a search of its own; with --observe of each observation, 4 by
    default."""
    out: OptionalText = None
    """Where they go, as for `sample`."""
    overwrite: bool = False
    """Replace the file of --out."""
    steps: PositiveInt = None
    """Of each search, at most: by default 20 for a reward, 100 for an observation."""
    given: Conditions = None
    """Conditions or parts of the data, KEY=VALUE, as for `sample`."""
    guidance: float = 1.0
    """1 is the plain conditional model."""
    seed: int = 0
    """Of all randomness: the searches start from the samples of this seed."""
    measurement: Annotated[MeasurementOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=MeasurementOptions)
    """How what was observed came about, and how it is explained."""
    search: Annotated[SearchOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=SearchOptions)
    """How a reward is followed."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""

    def __post_init__(self) -> None:
        normalize_fields(self, reward=as_reward_texts)

    @property
    def rewards(self) -> tuple[str, ...]:
        """The rewards in words, as they are recorded."""
        return as_reward_texts(self.reward)


@dataclass(frozen=True, kw_only=True)
class ConditionOptions(metaclass=OptionsType):
    """Of the samples that tuning looks at."""

    given: Conditions = None
    """Conditions that are always so while tuning, KEY=VALUE; others are drawn as often as in the training data."""
    guidance: float = 1.0
    """Of all samples that tuning looks at; the law of guided samples is what is tuned then."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig(metaclass=OptionsType):
    """Change the model of RUN so that it does what is wished for, always, and stays as diverse as that allows.

    Fields of the recipe follow by their own names, such as --train.lr 1e-4 or --objective.steps 60; `feller tune RUN
    --method NAME --help` shows them all.
    """

    folder: BaseRunArgument = None
    """The run folder; it stays as it is. By default the newest."""
    reward: Rewards = ()
    """What is wished for: file.py:FUNCTION of samples, the run of a regressor, or by name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. Each may have NUMBER * before it, or <= NUMBER, >= NUMBER, == NUMBER
    behind it. Several add up."""
    strength: float = 1.0
    """Factor on the reward: how many nats of likelihood one unit of it is worth."""
    method: Annotated[OptionalText, Choices(registries=("feller.models.recipes.fine_tuning_methods:METHODS",))] = None
    """adjoint-matching (the default), which aims at the tilted law; for comparison continuous-adjoint,
    discrete-adjoint, draft, refl and filtered; policy-gradient for rewards without a gradient."""
    steps: PositiveInt = None
    """Rounds of roll-outs; 100 by default."""
    minutes: PositiveFloat = None
    """How long to tune, instead of rounds."""
    rank: PositiveInt = None
    """Change each matrix of weights by one of this rank; by default all weights change."""
    seed: int = 0
    """Of all randomness."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """full, quick or none; by default it takes a fifth of the tuning's time, and at most two minutes."""
    conditions: Annotated[ConditionOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ConditionOptions)
    """Of the samples that tuning looks at."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Where the run goes."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""

    def __post_init__(self) -> None:
        normalize_fields(self, reward=as_reward_texts)

    @property
    def rewards(self) -> tuple[str, ...]:
        """The rewards in words, as they are recorded."""
        return as_reward_texts(self.reward)


@dataclass(frozen=True, kw_only=True)
class WorkOptions(metaclass=OptionsType):
    """Of the work and memory that a bridge takes."""

    pairs: Annotated[OptionalInt, Limits(2.0)] = None
    """Pairs of each round; 1,024 by default."""
    resample: Annotated[OptionalInt, Limits(0.0)] = None
    """Weigh so many trajectories for each pair by the cost, instead of trusting round paths; by default only where the
    cost has no gradient, then 64."""
    longest: PositiveInt = None
    """Longer side to bring pictures to, in pixels."""
    max_memory: PositiveFloat = None
    """Gigabytes that looking for paths may take, about."""


@dataclass(frozen=True, kw_only=True)
class BridgeConfig(metaclass=OptionsType):
    """Join populations A, B, ... by paths that cost least: control, and what you say being somewhere costs.

    Fields of the settings follow by their own names, such as --train.steps 3000, or --nfe 420 for more steps of
    each path than 210; `feller bridge A B --cost TEXT --help` shows them all.
    """

    data: DataArguments = ()
    """Two files or more with rows of numbers (.csv, .npz, .npy, .las, ...), or folders of pictures, in the order of
    time; or example:NAME."""
    times: Numbers = ()
    """When each was seen, such as 0 24 48; by default equally far apart."""
    cost: Annotated[Costs, Choices(registries=("feller.app.workflows.bridges.cost_specs:COST_NAMES",))] = ()
    """What being somewhere costs: file.py:FUNCTION of (x, t) or (x, t, population), t from 0 to 1, a picture whose
    black is wall, congestion, entropy, density (keep to where the data are), surface=FILE (keep to it), valleys=FILE
    (and low). Each may have NUMBER * before it. Several add up."""
    frame: Numbers = ()
    """Where the picture of walls lies: LEFT RIGHT BOTTOM TOP; by default one pixel is one unit, from (0, 0) up."""
    noise: OptionalFloat = None
    """How far a free walk strays over the whole journey, a deviation in units of the data, of pictures as numbers from
    -1, black, to 1, white; 0 for none. By default half the deviation within the populations."""
    rounds: PositiveInt = None
    """Drifts that are learned, ahead and back in turn; the last goes ahead, so that an even number becomes one more.
    7 by default."""
    minutes: PositiveFloat = None
    """How long to go on, instead of rounds."""
    growth: PositiveFloat = None
    """Let members count more or less than others, as cells that divide or die do: how much that costs, in median
    squared distances; 1 is usual, less allows more."""
    seed: int = 0
    """Of all randomness."""
    output: Annotated[RunFolderOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunFolderOptions)
    """Where the run goes."""
    work: Annotated[WorkOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=WorkOptions)
    """How much work and memory it takes."""
    printing: Annotated[PrintingOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PrintingOptions)
    """What is printed."""

    def __post_init__(self) -> None:
        normalize_fields(self, cost=as_reward_texts, times=tuple, frame=tuple)

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs in words, as they are recorded."""
        return as_reward_texts(self.cost)


@dataclass(frozen=True, kw_only=True)
class PlanOptions(metaclass=OptionsType):
    """Of a plan for private training."""

    noise: OptionalFloat = None
    """Of the calculator: deviation of the noise of a step, in clip norms."""
    rate: OptionalFloat = None
    """Of the calculator: chance of a row to be in a step."""
    steps: OptionalInt = None
    """Of the calculator: steps."""
    delta: OptionalFloat = None
    """Of the calculator: chance that epsilon does not cover; by default 1e-5."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig(metaclass=OptionsType):
    """Say what could be learned about single rows from RUN, the newest by default, and what bounds it.

    Without a run, for a plan: `feller audit calculator --noise 1.1 --rate 0.01 --steps 10000 --delta 1e-6`.
    """

    folder: Annotated[RunOrWord, Choices((CALCULATOR,))] = None
    """The run folder; or calculator, for a plan."""
    data: DataOption = None
    """The rows that the run learned from; by default where the fit found them."""
    show: Annotated[int, Limits(0.0)] = 10
    """So many of the most exposed rows."""
    shadows: OptionalInt = None
    """Train so many models again, each on half of all rows, to tell who was learned from; it takes as long each."""
    canaries: OptionalInt = None
    """Train once more with so many planted rows, which an attacker looks for."""
    report: Annotated[ReportKind, Choices(registries=("feller.evaluation.evaluation_budget:REPORTS",))] = None
    """full or quick: how long the attacks take that train nothing; by default a fifth of the training's time, and at
    most two minutes. none writes no page."""
    seed: int = 0
    """Of all randomness."""
    plan: Annotated[PlanOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=PlanOptions)
    """Of the calculator, which knows no run."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(metaclass=OptionsType):
    """Write the network of RUN, the newest by default, for other programs; or the whole model as a folder."""

    folder: RunArgument = None
    """The run folder."""
    to: Annotated[OptionalText, Choices(registries=("feller.app.workflows.export:EXPORT_FORMATS",))] = None
    """torch-export (a .pt2 file), onnx, each with a .json of its name beside it (export.onnx.json) that says what goes
    in, what comes out and how to sample; or huggingface, a folder that `feller sample` opens again."""
    out: OptionalText = None
    """The file or folder; by default export.pt2, export.onnx or huggingface in the run."""
    overwrite: bool = False
    """Replace the file of --out, and the .json beside it."""
    guidance: Annotated[str, Choices(("input",))] = "1"
    """A number that is built in; 1 is the plain conditional. Or input: whoever calls the network chooses."""
    loading: Annotated[RunOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RunOptions)
    """How the run is opened, and what is printed."""

    @property
    def form(self) -> str:
        """The form that is asked for; UsageError where none is."""
        if self.to is None:
            raise UsageError(expected="torch-export, onnx or huggingface", argument="to")
        return self.to
