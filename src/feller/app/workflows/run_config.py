"""Recorded configuration of a run, fingerprints of data, and input and output conventions of imported networks."""

import hashlib
import os
import pathlib
import shlex
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from feller.app.commands.flag_types import as_texts
from feller.app.config import FitConfig
from feller.app.option_groups import RunFolderOptions
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
from feller.core.errors import InputError, UsageError, error_context
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.core.serialization import from_dict, to_dict
from feller.core.user_code import check_code_file, load_code
from feller.core.user_code import fingerprint as file_hash
from feller.data.arrays.modality import Arrays
from feller.data.arrays.ucr_files import set_in_folder
from feller.data.batches import DataBundle, check_held_out_fraction, split
from feller.data.examples.loaders import EXAMPLES, Example
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.fingerprints import sha256_of
from feller.data.images.image_resizing import MAX_SIDE
from feller.data.labels import abbreviated
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource
from feller.data.loading.targets import read_with_target, with_target
from feller.data.modality import Dataset, Modality
from feller.data.shards.shard_names import shard_changes
from feller.models.export.model_saving import ONCE
from feller.models.recipes.image_sizes import IMAGE_SIZES
from feller.models.recipes.registry import RAW_DATA_TYPES, SCALABLE_RECIPES
from feller.models.spec import load_spec
from feller.training.optimizer import TrainConfig

READ = "read-"
"""Prefix of fingerprints that are hashes of the raw data, and not of values computed from the raw data."""
MAX_NAMED_SHARDS = 3
"""Maximum number of changed shards listed in an error message."""


@dataclass(frozen=True)
class TrainingDataRef:
    """Reference to the data that a model was trained on."""

    data: str
    """File, folder or example with the data; a description if this is unknown."""
    fingerprint: str = ""
    """Hash of the data; empty if unknown."""
    keyed: bool = False
    """True if the fingerprint was computed with a salt and a secret key."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Facts that a fit determined: its resolved recipe, the hashes of its data and code, and its privacy plan."""

    recipe: str
    """Name of the recipe that was used."""
    size: str = ""
    """Size of the network and of the training budget, such as small."""
    draft: bool = False
    """True if the schema file was still marked as a draft that was inferred from the rows."""
    private: Guarantee | ClosedFormBudget | None = None
    """Planned privacy guarantee or budget; None without differential privacy."""
    start_hash: str = ""
    """Hash of the weights of the start model, which initialised training."""
    has_own_schema: bool = False
    """True if a table started from a model that does not determine its schema, such as a language model."""
    ancestors: tuple[TrainingDataRef, ...] = ()
    """Training data of the start model and of its own start models; empty in older records, which contain only
    `start_from`."""
    held_out: float = 0.1
    """Fraction of the data that is held out."""
    test: str = ""
    """Path of the held-out data of a saved Python model; empty if the author did not name held-out data."""
    fingerprint: str = ""
    """Hash of the data as they were read."""
    rows: str = ""
    """Hash of private rows that were passed as a Python object and are not stored in the run; independent of row
    order."""
    shards: dict[str, str] = field(default_factory=dict)
    """Hash of each data shard by name; empty if there are no shards or too many."""
    salt: str = ""
    """Salt of the hash that decides, independently for each row of a private run, whether the row is held out; empty to
    select held-out rows by the seed."""
    code: str = ""
    """Hash of the user code file that defines the modality or the recipe."""
    fields: tuple[str, ...] = ()
    """Command-line words that set recipe fields, such as `--train.lr 1e-4`."""
    notes: tuple[str, ...] = ()
    """Notes on conversions made while reading the data."""

    def __post_init__(self) -> None:
        check_held_out_fraction(self.held_out)


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """Content of recipe.json for a fit, except the recipe itself."""

    config: FitConfig
    """Options of the fit except the options of the run folder; the path `data` is relative to the current folder."""
    provenance: Provenance
    """Facts that the fit determined."""

    @property
    def data(self) -> str:
        """File, folder or example with the data; empty if unknown."""
        return self.config.data or ""

    @property
    def seed(self) -> int:
        """Random seed of the fit."""
        return self.config.seed or 0

    @property
    def target(self) -> tuple[str, ...]:
        """Columns or properties to predict; empty for a generator."""
        return as_texts(self.config.target)

    @property
    def condition(self) -> tuple[str, ...]:
        """Columns or properties that are conditions."""
        return as_texts(self.config.data_loading.condition)

    @property
    def modality(self) -> str | None:
        """User-defined modality that reads the data, as `file.py:Class`; None for a built-in modality."""
        option = self.config.data_loading.modality
        return None if option is None else str(option)

    @property
    def start_from(self) -> str | None:
        """Run that supplied the initial weights; None for new weights."""
        start = self.config.training.start_from
        return None if start is None else os.fspath(start)

    @property
    def how_read(self) -> dict[str, Any]:
        """Keyword arguments of `read` with which the fit read its data."""
        names = ("longest", "space", "project", "vocabulary", "nested", "links")
        kwargs = {name: getattr(self.config.data_loading, name) for name in names}
        kwargs |= {name: getattr(self.config.data_loading.histories, name) for name in ("person", "order", "max_rows")}
        recipe, size = self.provenance.recipe, self.provenance.size or "small"
        is_scalable = recipe == "auto" or recipe in SCALABLE_RECIPES
        max_side = IMAGE_SIZES[size].limit if is_scalable and size in IMAGE_SIZES else MAX_SIDE
        return {**kwargs, "condition": self.condition, "kind": RAW_DATA_TYPES.get(recipe), "max_side": max_side}

    @property
    def watched(self) -> int:
        """Number of rows whose Fisher information loss is tracked during private training."""
        return n_tracked_rows(self.config)

    @property
    def is_private(self) -> bool:
        """True if the model was trained with differential privacy."""
        return self.provenance.private is not None

    @property
    def code_arguments(self) -> tuple[str, ...]:
        """Command-line words for the options of `fit` that name user code; empty without user code."""
        if not self.provenance.code:
            return ()
        recipe = ("--recipe", self.provenance.recipe) if ":" in self.provenance.recipe else ()
        return (*recipe, *(("--modality", self.modality) if self.modality else ()))

    @property
    def code_file(self) -> str:
        """Path of the user code file; empty without user code.

        Raises:
            InputError: If the record contains the hash of a user code file but not its name.
        """
        if not self.provenance.code:
            return ""
        if not self.code_arguments:
            raise InputError(
                argument="provenance.code",
                expected="the name of the custom recipe or modality in the record",
                found="none",
                remedy="Copy the whole run",
            )
        return self.code_arguments[-1].rpartition(":")[0]

    def with_provenance(self, **found: Any) -> "FitRecord":
        """Return the record with fields of its provenance replaced, which are given as keyword arguments."""
        return replace(self, provenance=replace(self.provenance, **found))

    def with_data(self, data: str) -> "FitRecord":
        """Return the record with the path of the data replaced."""
        return replace(self, config=replace(self.config, data=data))

    @property
    def content(self) -> dict[str, Any]:
        """Record as JSON data, for recipe.json."""
        return {"config": to_record(self.config, UNRECORDED), "provenance": to_dict(self.provenance)}


UNRECORDED = (*flags_of(RunFolderOptions), "json")
"""Names of the fit options that are not recorded, because they do not describe the model."""


def fingerprint(data: Dataset) -> str:
    """Return a hash of data and prediction target, to detect changed data; for streamed data, the hash of the shards.

    The hash is the same on every processor, because it is computed from the raw data and not from derived values.
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
    """Return a hash of the values computed from the data, as older records have it (without the prefix `READ`)."""
    cond = {name: data.given[name] for name in sorted(data.given)}
    target = () if data.target is None else (data.targets(data.target),)
    return sha256_of(*leaves(data.values), *leaves(cond), *target)[:16]


def data_fingerprint(data: Dataset, salt: str | None) -> str:
    """Return the fingerprint of data. With a salt, as for private data, recomputing it requires the secret key."""
    return fingerprint(data) if salt is None else keyed_fingerprint(fingerprint(data), salt)


def is_same_data(record: FitRecord, data: Dataset, named_data: str | None = None) -> bool:
    """Return True if `data` have the fingerprint in a run's record, or if the record contains no fingerprint.

    Args:
        record: Record of the run.
        data: Data that were read.
        named_data: Name of `data`; None for the name in the record.
    """
    recorded = record.provenance.fingerprint
    if not recorded or (named_data in (None, record.data) and is_older_example(record.data, recorded)):
        return True
    return matches_fingerprint(recorded, data, is_keyed=record.is_private) or has_same_notes(record, data)


def has_same_notes(record: FitRecord, data: Dataset) -> bool:
    """Return True if the recorded notes of an older speech run match the data: count, length, mean and std of log mels.

    The fingerprint of such a run is a hash of log mels, whose last bits depend on the processor. The notes are rounded
    to four decimals and can therefore be compared.
    """
    alike = bool(data.notes) and set(data.notes) <= set(record.provenance.notes)
    return alike and data.modality.is_identified_by_notes and has_value_fingerprint(record.provenance.fingerprint, data)


def is_from_other_processor(record: FitRecord, data: Dataset) -> bool:
    """Return True if the data of an older speech run match except for the rounding of another processor."""
    return has_same_notes(record, data) and not matches_fingerprint(
        record.provenance.fingerprint, data, is_keyed=record.is_private
    )


def matches_fingerprint(recorded: str, data: Dataset, *, is_keyed: bool) -> bool:
    """Return True if data have the recorded fingerprint; checking a keyed fingerprint requires the secret key."""
    current = fingerprint(data)
    if is_keyed:
        return matches_keyed(current, recorded)
    if current == recorded or (has_value_fingerprint(recorded, data) and _fingerprint_of_values(data) == recorded):
        return True
    is_array = data.modality.view(Arrays) is not None
    is_double = is_array and data.values.dtype == torch.float64  # float32 in older versions
    return is_double and fingerprint(replace(data, values=data.values.float())) == recorded


def has_value_fingerprint(recorded: str, data: Dataset) -> bool:
    """Return True if a recorded fingerprint is a hash of computed values (as in older records), not of the raw data."""
    return bool(data.fingerprint) and not recorded.startswith(READ)


def is_older_example(data: str, recorded: str) -> bool:
    """Return True if a fingerprint belongs to an older version of an example, whose data depended on the processor."""
    name = data.removeprefix(EXAMPLE_PREFIX).partition("/")[0]
    by_name = data.startswith(EXAMPLE_PREFIX) and name in EXAMPLES and EXAMPLES[name].by_name
    return by_name and not recorded.startswith(READ)


def read_fit_record(run: Run) -> FitRecord:
    """Read the fit record of a run; convert paths of data to paths relative to the current folder."""
    content = run.read_record(run.recipe)
    with error_context(run.recipe):
        config = from_record(FitConfig, content.get("config", {}))
    with error_context(run.recipe, place="provenance"):
        provenance = from_dict(Provenance, content.get("provenance", {}))
    record = FitRecord(config=config, provenance=provenance)
    if content.get("brought") is not None:  # older records say 0.1, although no rows were held out
        record = record.with_provenance(held_out=0.0)

    def resolved(key: str, data: str) -> str:
        try:
            return resolve_data_path(data, run)
        except OSError as error:  # such as a name that is too long
            raise InputError("a path", f"{data!r:.40}", file=run.recipe, place=key) from error

    record = record.with_provenance(test=resolved("provenance.test", provenance.test))
    return record.with_data(resolved("config.data", record.data)) if record.data else record


def find_run(folder: str | None, code: str | None, reporter: Reporter) -> Run:
    """Return the run in a folder, or log and return the newest run if `folder` is None.

    Also load the user code `code`, if it is not None.
    """
    if code is not None:
        check_code_file(code)
    run = open_run(folder)
    if code is not None:
        load_code(code, run.path)
    _check_code(run, code)
    if code is not None and read_fit_record(run).provenance.code not in ("", file_hash(pathlib.Path(code))):
        reporter.log(f"{code} has changed since this run was fitted; the model may behave differently")
    if folder is None:
        reporter.log(f"using the newest run: {run.path}")
    return run


def _check_code(run: Run, code: str | None) -> None:
    """Raise an error if a run needs user code and the caller named no file or the wrong one."""
    record = read_fit_record(run)
    if not record.provenance.code:
        return
    run.read_record(run.model)  # raises an error if the run is damaged
    try:
        load_spec(run)
    except InputError as error:
        file = record.code_file
        if code is not None:
            raise UsageError(
                f"{code} does not define the custom components of {run.path}, which was fitted with {file}",
                remedy="Name this file with --code",
            ) from error
        raise UsageError(
            f"the model of {run.path} uses custom code", remedy=f"Name the file with --code {file}"
        ) from error


def read_train_config(run: Run) -> TrainConfig:
    """Read the recorded training configuration of a run."""
    if read_import_conventions(run) is not None:  # no training is recorded for an imported network
        return ONCE
    return run.read_as(TrainConfig, run.recipe, "recipe", "train")


def example_of(record: FitRecord) -> Example | None:
    """Return the example that the run was trained on; None if the data are not an example."""
    return EXAMPLES.get(record.data.removeprefix(EXAMPLE_PREFIX)) if record.data.startswith(EXAMPLE_PREFIX) else None


def is_described(record: FitRecord) -> bool:
    """Return True if the schema of the run's table was given to the fit, and not inferred from the rows."""
    has_start_schema = record.start_from and not record.provenance.has_own_schema
    return bool(record.config.data_loading.schema or has_start_schema or example_of(record) or not record.data)


def train_test_split(record: FitRecord, data: Dataset) -> tuple[Dataset, Dataset]:
    """Split data into a training and a held-out part: a named file, the test part of an example, or a random fraction.

    A folder with NAME_TRAIN.ts and NAME_TEST.ts has a test part too.

    The seed selects the random fraction. It is stratified by class, except in a private run, where each row must be
    selected independently.
    """
    if record.provenance.test:
        return data, read(record.provenance.test, longest=record.config.data_loading.longest, like=data.modality)
    if example_of(record) and data.target is not None:
        return data, read_with_target(f"{record.data}/test", data.modality, data.target)
    if example_of(record):
        return data, read(f"{record.data}/test", like=data.modality)
    if (test_file := labelled_test_file(record.data)) is not None:
        return data, read(test_file, like=data.modality)
    if record.provenance.salt:
        held_out_mask = holdout_mask(data, record.provenance.held_out, record.provenance.salt)
        return data.subset((~held_out_mask).nonzero()[:, 0]), data.subset(held_out_mask.nonzero()[:, 0])
    return split(data, record.provenance.held_out, Rng(record.seed), stratified=not record.is_private)


def labelled_test_file(source: str) -> str | None:
    """Return the test file of a folder with a UCR set; None for all other data."""
    folder = pathlib.Path(source)
    found = set_in_folder(folder) if source and folder.is_dir() else None
    return None if found is None or found[1] is None else str(found[1])


def read_run_data(record: FitRecord, modality: Modality | None, in_memory_data: DataSource | None = None) -> Dataset:
    """Read the data of a run with the options of its fit; a fit that started from another run uses that run's modality.

    Args:
        record: Fit record.
        modality: Modality of the run's model.
        in_memory_data: Data as a Python object, if the run was fitted to a Python object and stores no copy.

    Raises:
        InputError: If the run has no recorded data, or was fitted to a Python object that is neither stored nor passed.
    """
    if not record.data:
        raise InputError(
            argument="data",
            expected="a run with recorded training data",
            found="a run saved or imported without training data",
            remedy="Pass comparable data: feller evaluate RUN --data FILE",
        )
    source = record.data if in_memory_data is None else in_memory_data
    if isinstance(source, str) and source.startswith(IN_MEMORY_PREFIX):
        raise InputError(
            f"this run was fitted to a {source.removeprefix(IN_MEMORY_PREFIX)} in memory and stores no copy",
            remedy="Pass the rows again, data=..., or write the rows to a file and pass the file with --data",
        )
    has_reader = modality is not None and (modality.is_read_with_model or modality.has_own_loader)
    like = modality if record.start_from or has_reader else None
    if record.modality and like is None:  # records never load code; it must be named by the caller
        modality_text = f"the custom modality {record.modality}, which was not passed"
        raise InputError(
            argument="modality",
            expected="a modality that is built in or passed, to read the data of the run",
            found=modality_text,
        )
    data = read(source, like=like, **record.how_read)
    if record.provenance.salt:
        data = with_white_level(data, source, like)
    return with_target(data, record.target, record.provenance.recipe)


def reread_data(record: FitRecord, modality: Modality | None, in_memory_data: DataSource | None = None) -> Dataset:
    """Read the data of a run again, after training; raise an error if their fingerprint is not the recorded one.

    Args:
        record: Fit record.
        modality: Modality of the run's model.
        in_memory_data: Data as a Python object, if the run was fitted to a Python object and stores no copy.

    Raises:
        InputError: If the data are missing or have changed.
    """
    data = read_run_data(record, modality, in_memory_data)
    if not is_same_data(record, data):
        key_text = f", or the key in {key_path()} differs" if record.is_private else ""
        shards_text = (
            ""
            if data.stream is None
            else _changed_shards_text(shard_changes(record.provenance.shards, data.stream.fingerprints))
        )
        version_text = (
            ", or an older version of feller fitted it on another processor"
            if has_value_fingerprint(record.provenance.fingerprint, data)
            else ""
        )
        raise InputError(
            f"{record.data} has changed since this run was fitted{key_text}{version_text}{shards_text}",
            remedy="Restore the data",
        )
    return data


def read_bundle(record: FitRecord, modality: Modality, in_memory_data: DataSource | None = None) -> DataBundle:
    """Read the data of a run again, and split them into training and held-out part.

    Args:
        record: Fit record.
        modality: Modality of the run's model, which both parts get.
        in_memory_data: Data as a Python object, if the run was fitted to a Python object and stores no copy.

    Raises:
        InputError: If the data are missing or have changed.
    """
    raw = reread_data(record, modality, in_memory_data)
    return split_run_data(record, modality, raw)


def same_rows(record: FitRecord, modality: Modality, data: DataSource) -> Dataset | None:
    """Read rows from a Python object; None if they are not the training rows of the run (in any order)."""
    raw = read_run_data(record, modality, data) if record.provenance.rows else None
    return raw if raw is not None and matches_keyed(unordered_print(raw), record.provenance.rows) else None


def split_run_data(record: FitRecord, modality: Modality, raw: Dataset) -> DataBundle:
    """Return all data `raw` of a run together with their training part and held-out part.

    Both parts get the modality `modality`, which is that of the run's model.
    """
    return DataBundle(*train_test_split(record, raw.with_modality(modality)), raw, record.provenance.fingerprint)


def _changed_shards_text(changed: dict[str, list[str]]) -> str:
    clauses = [
        f"{abbreviated(names, MAX_NAMED_SHARDS)} {'is' if len(names) == 1 else 'are'} {change}"
        for change, names in changed.items()
    ]
    return f": {', '.join(clauses)}" if clauses else ""


@dataclass(frozen=True, kw_only=True)
class ImportConventions:
    """Conventions for the inputs and outputs of an imported network, as stored in recipe.json."""

    modality: str | None = None
    """Modality and shape of the data, such as images:28x28; None if inferred from the data."""
    weights: str | None = None
    """Path of the file with the weights; None to use the weights of the network that the user's function returns."""
    predicts: str = "velocity"
    schedule: str = "linear"
    times: tuple[float, float] = (0.0, 1.0)
    """Values of the network's time input at the source (noise) and at the data."""
    null: int | None = None
    """Index of the unconditional class; None if the network has no unconditional class."""
    classes: tuple[str, ...] = ()
    saved: bool = False
    """True if the run is a saved Python model, whose model specification contains the other fields."""
    folder: str = ""
    """Folder of diffusers or transformers that was imported; empty for a network of Python code."""


def read_import_conventions(run: Run) -> ImportConventions | None:
    """Read the conventions of an imported network; None if the run was trained by feller."""
    return run.find(ImportConventions, run.recipe, "brought")


def import_command(run: Run, record: FitRecord, conventions: ImportConventions) -> str:
    """Return the command that repeats the import of a network."""
    default, args = ImportConventions(), ["feller", "import", conventions.folder or record.provenance.recipe]
    flags = [name for name in vars(default) if name != "folder"]
    for name, value in (("data", record.data or None), *((name, getattr(conventions, name)) for name in flags)):
        if value not in (None, ()) and value != getattr(default, name, None):
            values = value if isinstance(value, tuple) else (value,)
            args += [f"--{name}", *(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in values)]
    return shlex.join([*args, "--out", str(run.path)])


MAX_PARENT_FOLDERS = 3
"""Number of parent folders of a run in which its data are searched; runs are in `runs/` or one level below it."""


def resolve_data_path(data: str, run: Run) -> str:
    """Return the path of a run's data: the recorded path or, if missing, the same path from a parent folder of the run.

    Readers of the data compare the fingerprint with the recorded fingerprint, so that other data with the same name are
    detected.

    Returns:
        Path relative to the current folder; the recorded path if no data are found.
    """
    path = pathlib.Path(data)
    if (
        not data
        or data.startswith((EXAMPLE_PREFIX, IN_MEMORY_PREFIX))
        or path.is_absolute()
        or ".." in path.parts
        or path.exists()
    ):
        return data
    for folder in [*run.path.resolve().parents][:MAX_PARENT_FOLDERS]:
        if (folder / path).exists():
            return os.path.relpath(folder / path)
    return data
