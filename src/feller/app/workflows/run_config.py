"""Recorded configuration of a run, its data fingerprint, and imported networks."""

import hashlib
import os
import pathlib
import shlex
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from feller.app.commands.flag_types import as_texts
from feller.app.config import FitConfig, RunFolderOptions
from feller.app.options import flags_of, from_record, to_record
from feller.app.reporter import Reporter
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee, n_tracked_rows
from feller.app.workflows.private.private_split import (
    holdout_mask,
    key_path,
    keyed_fingerprint,
    matches_keyed,
    unordered_print,
)
from feller.app.workflows.private.probe_rows import with_white_level
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.core.serialization import from_dict, to_dict
from feller.core.user_code import check_code_file, load_code
from feller.core.user_code import fingerprint as file_hash
from feller.data.batches import DataBundle, check_held_out_fraction, split
from feller.data.examples.loaders import EXAMPLES, Example
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.labels import abbreviated
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource
from feller.data.loading.targets import read_with_target, with_target
from feller.data.modality import Dataset, Modality
from feller.data.shards.shard_names import shard_changes
from feller.models.export.model_saving import ONCE
from feller.models.recipes.registry import RAW_DATA_TYPES
from feller.models.spec import load_spec
from feller.training.optimizer import TrainConfig

READ = "read-"
"""Begins the fingerprint of what was read, where values are computed from it."""
MAX_NAMED_SHARDS = 3
"""Shards that are named where more are not what they were."""


@dataclass(frozen=True)
class TrainingDataRef:
    """Data that a model has learned from."""

    data: str
    """File, folder or example; in words where that is not known."""
    fingerprint: str = ""
    """Their hash; empty where nobody knows it."""
    keyed: bool = False
    """Whether that has a salt and a key."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a fit found out of what it was asked for."""

    recipe: str
    """Name of the recipe that was chosen."""
    size: str = ""
    """Of the network and the budget."""
    draft: bool = False
    """Whether the file with the schema was still marked as guessed from the rows."""
    private: Guarantee | ClosedFormBudget | None = None
    """What privacy was planned, where that was asked."""
    start_hash: str = ""
    """Hash of the weights of the model that it started from."""
    ancestors: tuple[TrainingDataRef, ...] = ()
    """What that model and those before it learned from; empty in older records, which name `start_from` alone."""
    held_out: float = 0.1
    """Share of the data kept back."""
    test: str = ""
    """Where the rows are that were kept back, if a model was saved whose maker says so; then all data were learned."""
    fingerprint: str = ""
    """Hash of the data as read."""
    rows: str = ""
    """The same whatever their order, of private rows that were in memory, of which the run keeps no copy."""
    shards: dict[str, str] = field(default_factory=dict)
    """Hash of each shard that the data lie in, by its name; empty where there are none, or too many."""
    salt: str = ""
    """Of the hash that keeps rows of a private run back, each by itself; empty where the seed picks them."""
    code: str = ""
    """Hash of the user's file with the modality or the recipe."""
    fields: tuple[str, ...] = ()
    """Words that set fields of the recipe, such as `--train.lr 1e-4`."""
    notes: tuple[str, ...] = ()
    """What was converted while reading."""

    def __post_init__(self) -> None:
        check_held_out_fraction(self.held_out)


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """What recipe.json holds of a fit, beside its recipe."""

    config: FitConfig
    """What was asked for, but for the folder of the run; `data` are named from here."""
    provenance: Provenance
    """What was found out of it."""

    @property
    def data(self) -> str:
        """File, folder or example; empty where nobody knows."""
        return self.config.data or ""

    @property
    def seed(self) -> int:
        """Of all randomness."""
        return self.config.seed or 0

    @property
    def target(self) -> tuple[str, ...]:
        """What is to be told of the data, where that was asked."""
        return as_texts(self.config.target)

    @property
    def modality(self) -> str | None:
        """The user's own modality that read them, as `file.py:Class`."""
        own = self.config.data_loading.modality
        return None if own is None else str(own)

    @property
    def start_from(self) -> str | None:
        """Run of the model whose weights were the first."""
        start = self.config.training.start_from
        return None if start is None else os.fspath(start)

    @property
    def how_read(self) -> dict[str, Any]:
        """Arguments of `read` with which the fit read its data."""
        how = {name: getattr(self.config.data_loading, name) for name in ("longest", "space", "project", "vocabulary")}
        return {**how, "kind": RAW_DATA_TYPES.get(self.provenance.recipe)}

    @property
    def watched(self) -> int:
        """Rows of which a private training keeps account."""
        return n_tracked_rows(self.config)

    @property
    def is_private(self) -> bool:
        """Whether rows are protected."""
        return self.provenance.private is not None

    @property
    def code_arguments(self) -> tuple[str, ...]:
        """Words of a `fit` that name code of the user's own; none where there is none."""
        if not self.provenance.code:
            return ()
        recipe = ("--recipe", self.provenance.recipe) if ":" in self.provenance.recipe else ()
        return (*recipe, *(("--modality", self.modality) if self.modality else ()))

    @property
    def code_file(self) -> str:
        """The user's file that makes the run; empty where there is none.

        Raises:
            InputError: If the record has the hash of one, and does not name it.
        """
        if not self.provenance.code:
            return ""
        if not self.code_arguments:
            raise InputError(
                argument="provenance.code",
                expected="a recipe or a modality of yours in the record, with the hash of its file",
                found="none",
                remedy="Copy the whole run",
            )
        return self.code_arguments[-1].rpartition(":")[0]

    def with_provenance(self, **found: Any) -> "FitRecord":
        """Return it with more of what was found out."""
        return replace(self, provenance=replace(self.provenance, **found))

    def with_data(self, data: str) -> "FitRecord":
        """Return it with another place of the data."""
        return replace(self, config=replace(self.config, data=data))

    @property
    def content(self) -> dict[str, Any]:
        """What recipe.json holds of it."""
        return {"config": to_record(self.config, UNRECORDED), "provenance": to_dict(self.provenance)}


UNRECORDED = (*flags_of(RunFolderOptions), "json")
"""Options of a fit that say nothing of the model."""


def fingerprint(data: Dataset) -> str:
    """Hash data and their target, so that a resumed run notices others in their place; of shards, what they are.

    It is the same on every processor: where values are computed, what they are computed from is hashed.
    """
    if data.stream is not None:
        return data.stream.fingerprint
    if not data.fingerprint:
        return _fingerprint_of_values(data)
    digest = hashlib.sha256(data.fingerprint.encode())
    if data.target is not None:
        digest.update(np.ascontiguousarray(data.targets(data.target).numpy()).tobytes())
    return f"{READ}{digest.hexdigest()[:16]}"


def _fingerprint_of_values(data: Dataset) -> str:
    """Hash the values themselves, as all records had it before `READ`."""
    digest = hashlib.sha256()
    cond = {name: data.given[name] for name in sorted(data.given)}
    target = {} if data.target is None else {"target": data.targets(data.target)}
    for leaf in [*leaves(data.values), *leaves(cond), *leaves(target)]:
        digest.update(np.ascontiguousarray(leaf.numpy()).tobytes())
    return digest.hexdigest()[:16]


def data_fingerprint(data: Dataset, salt: str | None) -> str:
    """Return the fingerprint of data; that of private ones has a salt, and needs a key to be made again."""
    return fingerprint(data) if salt is None else keyed_fingerprint(fingerprint(data), salt)


def is_same_data(record: FitRecord, data: Dataset, named_data: str | None = None) -> bool:
    """Tell whether data are those of a run; of a run without a fingerprint they are taken for that.

    Args:
        record: Of the run.
        data: What was read.
        named_data: Of what; by default of what the run names.
    """
    before = record.provenance.fingerprint
    if not before or (named_data in (None, record.data) and is_older_example(record.data, before)):
        return True
    return matches_fingerprint(before, data, is_keyed=record.is_private) or has_same_notes(record, data)


def has_same_notes(record: FitRecord, data: Dataset) -> bool:
    """Tell whether an older run of speech told the same of its sounds: number, length, mean and deviation of log mels.

    Its fingerprint is of log mels, whose last bits depend on the processor; four decimals of what was told do not.
    """
    alike = bool(data.notes) and set(data.notes) <= set(record.provenance.notes)
    return alike and data.modality.is_identified_by_notes and has_value_fingerprint(record.provenance.fingerprint, data)


def is_from_other_processor(record: FitRecord, data: Dataset) -> bool:
    """Tell whether an older run of speech is from another processor than this one."""
    return has_same_notes(record, data) and not matches_fingerprint(
        record.provenance.fingerprint, data, is_keyed=record.is_private
    )


def matches_fingerprint(recorded: str, data: Dataset, *, is_keyed: bool) -> bool:
    """Tell whether data have a fingerprint, which may be one that needs a key."""
    now = fingerprint(data)
    if is_keyed:
        return matches_keyed(now, recorded)
    return now == recorded or (has_value_fingerprint(recorded, data) and _fingerprint_of_values(data) == recorded)


def has_value_fingerprint(recorded: str, data: Dataset) -> bool:
    """Tell whether a fingerprint is of computed values, where now what they are computed from is hashed."""
    return bool(data.fingerprint) and not recorded.startswith(READ)


def is_older_example(data: str, recorded: str) -> bool:
    """Tell whether a fingerprint is of an example from when its bits depended on the processor: its name suffices."""
    name = data.removeprefix(EXAMPLE_PREFIX).partition("/")[0]
    by_name = data.startswith(EXAMPLE_PREFIX) and name in EXAMPLES and EXAMPLES[name].by_name
    return by_name and not recorded.startswith(READ)


def read_fit_record(run: Run) -> FitRecord:
    """Read what was asked of a run; data are named from here, where they are found by the folder of the run."""
    content = run.read_record(run.recipe)
    found = content.get("provenance", {})
    if content.get("brought") is not None:  # older records say 0.1, and nobody kept rows back
        found = {**found, "held_out": 0.0}
    provenance = from_dict(Provenance, found)
    record = FitRecord(config=from_record(FitConfig, content.get("config", {})), provenance=provenance)
    if record.provenance.test:
        record = record.with_provenance(test=resolve_data_path(record.provenance.test, run))
    return record.with_data(resolve_data_path(record.data, run)) if record.data else record


def find_run(folder: str | None, code: str | None, reporter: Reporter) -> Run:
    """Return the run, and load the code that the caller names; say which run it is if none was named."""
    if code is not None:
        check_code_file(code)
    run = open_run(folder)
    if code is not None:
        load_code(code, run.path)
    _check_code(run, code)
    if code is not None and read_fit_record(run).provenance.code not in ("", file_hash(pathlib.Path(code))):
        reporter.log(f"{code} is not what it was when this run was fitted; the model may mean something else by now")
    if folder is None:
        reporter.log(f"the newest run: {run.path}")
    return run


def _check_code(run: Run, code: str | None) -> None:
    """Refuse a run that is made of the user's own code, where none or another was named."""
    record = read_fit_record(run)
    if not record.provenance.code:
        return
    run.read_record(run.model)  # damage is told as it is
    try:
        load_spec(run)
    except InputError as error:
        file = record.code_file
        if code is not None:
            raise UsageError(
                f"{code} does not define what the model of {run.path} is made of, which was fitted with {file}",
                remedy="Name that file with --code",
            ) from error
        raise UsageError(
            f"the model of {run.path} is made of code of yours", remedy=f"Name it with --code {file}"
        ) from error


def read_train_config(run: Run) -> TrainConfig:
    """Read how long a run was to train, and how."""
    if read_import_conventions(run) is not None:  # of which nothing is known
        return ONCE
    return from_dict(TrainConfig, run.read_field(run.recipe, "recipe", "train"))


def example_of(record: FitRecord) -> Example | None:
    """Return the example whose training part the data are, if they are one."""
    return EXAMPLES.get(record.data.removeprefix(EXAMPLE_PREFIX)) if record.data.startswith(EXAMPLE_PREFIX) else None


def is_described(asked: FitRecord) -> bool:
    """Tell whether somebody described the columns of a run's table, rather than its own rows."""
    return bool(asked.config.data_loading.schema or asked.start_from or example_of(asked) or not asked.data)


def train_test_split(record: FitRecord, data: Dataset) -> tuple[Dataset, Dataset]:
    """Return the training data and those kept back: a file that was named, an example's own test part, or a share.

    The seed picks it, and sets classes aside alike, but in a private run, where no row must decide about another.
    """
    if record.provenance.test:
        return data, read(record.provenance.test, longest=record.config.data_loading.longest, like=data.modality)
    if example_of(record) and data.target is not None:
        return data, read_with_target(f"{record.data}/test", data.modality, data.target)
    if example_of(record):
        return data, read(f"{record.data}/test", like=data.modality)
    if record.provenance.salt:
        aside = holdout_mask(data, record.provenance.held_out, record.provenance.salt)
        return data.subset((~aside).nonzero()[:, 0]), data.subset(aside.nonzero()[:, 0])
    return split(data, record.provenance.held_out, Rng(record.seed), stratified=not record.is_private)


def read_run_data(record: FitRecord, modality: Modality | None, in_memory_data: DataSource | None = None) -> Dataset:
    """Read data as a fit did: one that started from an older run took that run's modality.

    Args:
        record: What was asked of the run.
        modality: Of its model.
        in_memory_data: The data, where the run keeps no copy of what was in memory.

    Raises:
        InputError: If the run does not know its data, or they were in memory and are not given.
    """
    if not record.data:
        raise InputError(
            argument="data",
            expected="a run that knows what its model learned from",
            found="one that was saved or imported without it",
            remedy="Name rows like these: feller evaluate RUN --data FILE",
        )
    origin = record.data if in_memory_data is None else in_memory_data
    if isinstance(origin, str) and origin.startswith(IN_MEMORY_PREFIX):
        raise InputError(
            f"this run learned from a {origin.removeprefix(IN_MEMORY_PREFIX)} in memory, and keeps no copy",
            remedy="Give the rows again, data=..., or write them to a file and name it with --data",
        )
    own = modality is not None and (modality.is_read_with_model or modality.has_own_loader)
    like = modality if record.start_from or own else None
    if record.modality and like is None:  # a record names no code: the model's own is loaded where its caller says so
        found = f"one that another file reads, {record.modality}"
        raise InputError(argument="modality", expected="a run whose model says how its data are read", found=found)
    data = read(origin, like=like, **record.how_read)
    if record.provenance.salt:
        data = with_white_level(data, origin, like)
    return with_target(data, record.target, record.provenance.recipe)


def reread_data(record: FitRecord, modality: Modality | None, in_memory_data: DataSource | None = None) -> Dataset:
    """Read a run's data once more, as the fit did.

    Raises:
        InputError: If they are gone, or are others by now.
    """
    data = read_run_data(record, modality, in_memory_data)
    if not is_same_data(record, data):
        key = f", or the key in {key_path()} is another" if record.is_private else ""
        shards = (
            ""
            if data.stream is None
            else _changed_shards_text(shard_changes(record.provenance.shards, data.stream.fingerprints))
        )
        moved = (
            ", or an older feller fitted it on another processor"
            if has_value_fingerprint(record.provenance.fingerprint, data)
            else ""
        )
        raise InputError(
            f"{record.data} is not what it was when this run was fitted{key}{moved}{shards}", remedy="Bring it back"
        )
    return data


def read_bundle(record: FitRecord, modality: Modality, in_memory_data: DataSource | None = None) -> DataBundle:
    """Read a run's data once more and split them, as the model sees them; errors as `reread_data`."""
    raw = reread_data(record, modality, in_memory_data)
    return as_bundle(record, modality, raw)


def same_rows(asked: FitRecord, modality: Modality, given: DataSource) -> Dataset | None:
    """Read rows in memory; None if they are not those of a fit, in any order."""
    raw = read_run_data(asked, modality, given) if asked.provenance.rows else None
    return raw if raw is not None and matches_keyed(unordered_print(raw), asked.provenance.rows) else None


def as_bundle(asked: FitRecord, modality: Modality, raw: Dataset) -> DataBundle:
    """Return all rows of a run with those that it learned from and those kept back."""
    return DataBundle(*train_test_split(asked, raw.with_modality(modality)), raw, asked.provenance.fingerprint)


def _changed_shards_text(changed: dict[str, list[str]]) -> str:
    """Say which shards are not what they were."""
    clauses = [
        f"{abbreviated(names, MAX_NAMED_SHARDS)} {'is' if len(names) == 1 else 'are'} {what}"
        for what, names in changed.items()
    ]
    return f": {', '.join(clauses)}" if clauses else ""


@dataclass(frozen=True, kw_only=True)
class ImportConventions:
    """Its conventions; recipe.json holds them."""

    modality: str | None = None
    """What its data are, in words; None for what the data look like."""
    weights: str | None = None
    """File that they were read from."""
    predicts: str = "velocity"
    schedule: str = "linear"
    times: tuple[float, float] = (0.0, 1.0)
    """Its times at the source and at the data."""
    null: int | None = None
    """Its number for "no class given"."""
    classes: tuple[str, ...] = ()
    saved: bool = False
    """Whether a model in Python was saved, in whose description the rest stands."""


def read_import_conventions(run: Run) -> ImportConventions | None:
    """Read what was said of a run's network; None if it was trained here."""
    content = run.read_record(run.recipe).get("brought")
    return None if content is None else from_dict(ImportConventions, content)


def import_command(run: Run, record: FitRecord, conventions: ImportConventions) -> str:
    """Return the command that makes such a run."""
    usual, words = ImportConventions(), ["feller", "import", record.provenance.recipe]
    for name, value in (("data", record.data or None), *((name, getattr(conventions, name)) for name in vars(usual))):
        if value not in (None, ()) and value != getattr(usual, name, None):
            several = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in several)]
    return shlex.join([*words, "--out", str(run.path)])


MAX_PARENT_FOLDERS = 3
"""Folders above a run in which its data are looked for: a run lies in `runs`, or in a folder of runs there."""


def resolve_data_path(data: str, run: Run) -> str:
    """Return where data are: as recorded, or by the folders above the run, among which is that of the fit.

    Whoever reads them compares their fingerprint with the recorded one, so that others of that name are noticed.

    Args:
        data: As the run records it.
        run: Where it lies now.

    Returns:
        A path from here, or what is recorded where there is none.
    """
    place = pathlib.Path(data)
    if (
        not data
        or data.startswith((EXAMPLE_PREFIX, IN_MEMORY_PREFIX))
        or place.is_absolute()
        or ".." in place.parts
        or place.exists()
    ):
        return data
    for folder in [*run.path.resolve().parents][:MAX_PARENT_FOLDERS]:
        if (folder / place).exists():
            return os.path.relpath(folder / place)
    return data
