"""Modality and Dataset: conversion between raw files, values in data units, and model states."""

import abc
import contextlib
import io
import math
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeGuard, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int, Int64
from PIL import Image
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.core.serialization import replace_file
from feller.data.conditions.condition import Condition
from feller.data.conditions.numbers import vector_cells
from feller.data.conditions.recognition import fit_condition
from feller.data.figures import to_image
from feller.data.files import sample_folder
from feller.data.files.delimited import write_parquet
from feller.data.files.numpy_files import write_array, write_arrays
from feller.data.fingerprints import fingerprint_of, sha256_of
from feller.data.labels import abbreviated, class_number, renumbered, unknown_class
from feller.data.loading.raw import RawExamples, RawTable
from feller.data.stream import Stream
from feller.spaces import Space


@dataclass(frozen=True)
class Target:
    """Prediction target: real-valued properties with normalisation statistics, or one class label."""

    names: tuple[str, ...]
    """Names of the target properties in the data files; empty for a class label."""
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    """Standard deviation of each property; `means` and `scales` have one entry per name, and are empty for a class
    label."""
    classes: tuple[str, ...] = ()
    """Class names of the target; empty for real-valued targets."""
    all_classes: tuple[str, ...] = ()
    """All class names in the data, if the target is restricted to some of the classes."""

    def __post_init__(self) -> None:
        count = 0 if self.classes else len(self.names)
        is_valid = len(self.means) == len(self.scales) == count and all(0 < s < math.inf for s in self.scales)
        if not {*self.classes} <= {*(self.all_classes or self.classes)}:
            raise InputError(f"target classes among {', '.join(self.all_classes)}", ", ".join(self.classes))
        if not self.names or not is_valid or (self.classes and len(self.names) > 1):
            raise InputError(
                "a mean and a positive standard deviation for each property, or a single property with classes", self
            )

    @property
    def num_outputs(self) -> int:
        """Number of network outputs: one per name, or one logit per class."""
        return len(self.classes) or len(self.names)


MAX_FIGURE_EXAMPLES = 256
"""Maximum number of examples in a notebook figure."""
Writer = Callable[[State, Cond, pathlib.Path], None]
ROWS = "samples.csv"
"""File name of the table in a folder of samples."""


@dataclass(frozen=True, eq=False)
class RawData:
    """Raw examples of a user-defined modality, before encoding."""

    values: Tensor | dict[str, Tensor]
    """Examples in data units: a tensor [n, ...], or a dict of tensors."""
    given: Cond = field(default_factory=dict)
    """Conditions by name: the class ids of the examples, int64 [n]."""
    notes: tuple[str, ...] = ()
    """Notes about how the data were read."""
    properties: dict[str, Tensor] = field(default_factory=dict)
    """Real-valued properties by name, which can be targets of regression, [n] each."""


M = TypeVar("M", bound="Modality")


@dataclass(frozen=True)
class Modality(abc.ABC):
    """Base class of data types, which convert between values in data units, as in files, and states of the model.

    A user-defined modality is a frozen dataclass; a run records its fields. It defines `name`, `suffixes`, `figure` and
    `recipe`, and implements `load`, `space`, `encode` and `decode`. Optional: `fit` learns statistics, `frame` makes
    samples tabular, `metrics` adds metrics to reports. `feller.testing.check_modality` tests the implementation.
    """

    name: ClassVar[str] = ""
    """Name under which a user-defined modality is registered."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """File suffixes that `load` reads, such as .csv."""
    metrics: ClassVar[Sequence[Callable[[Any, Any], float]]] = ()
    """Functions by name that return a distance between sample values and real values; 0 for identical distributions."""
    figure: ClassVar[Callable[..., Any] | None] = None
    """Function (values, conditions) -> matplotlib figure or PIL image."""
    recipe: ClassVar[str | Callable[..., Any]] = ""
    """Default recipe: the name of a recipe, or a function of (dataset, size) that returns one."""
    display_name: ClassVar[str] = "data of a custom modality"
    """Noun phrase that denotes this type of data in messages."""
    raw_type: ClassVar[type[RawExamples]] = RawExamples
    """Type of the raw examples in files of this modality; readers require it before they apply size limits."""
    min_held_out: ClassVar[int] = 50
    """Minimum number of held-out examples, or of units `unit_name`, for a meaningful comparison with samples."""
    unit_name: ClassVar[str] = ""
    """Name of the unit in which held-out data are counted, such as residues; empty if examples are counted."""
    has_computed_values: ClassVar[bool] = False
    """True if values are computed from file contents, so that their last bits depend on the CPU."""
    is_tabular: ClassVar[bool] = False
    """True if examples are table rows, among which duplicates are legitimate."""
    groups_rows: ClassVar[bool] = False
    """True if an example consists of several rows of a table."""
    samples_as_frame: ClassVar[bool] = False
    """True if samples are returned as a data frame."""
    has_vocabulary: ClassVar[bool] = False
    """True if examples are sequences of tokens from a vocabulary."""
    is_manifold: ClassVar[bool] = False
    """True if examples are points on a curved manifold."""
    is_identified_by_notes: ClassVar[bool] = False
    """True if a run of an older version recognises its data by the notes on their reading, because hashes of computed
    values depend on the CPU."""
    is_read_with_model: ClassVar[bool] = False
    """True if the data of a run must be read again with the fitted modality of the run."""
    has_density: ClassVar[bool] = True
    """True if states have a density, so that likelihoods are defined."""
    has_schema: ClassVar[bool] = False
    """True if data are read with a schema, which the model stores."""
    file_conditions: ClassVar[dict[str, str]] = {}
    """Expected contents of the file with which a user sets a component (leaf) of the state that is held fixed during
    sampling, by name of the component."""

    selected_conditions: dict[str, Condition] = field(default_factory=dict, hash=False, kw_only=True)
    """Type of each condition that the user selected, by name: a column or property that the model is conditioned on."""

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Class names of each condition; by default those of `label`, if the modality has `classes`."""
        classes = () if self.has_own_loader else getattr(self, "classes", ())
        return {"label": classes} if classes else {}

    def condition_columns(self, values: State) -> tuple[str, ...]:
        """Return the columns of examples that `fit` can select as conditions, by name; default: none."""
        return ()

    def view(self, kind: type[M]) -> M | None:
        """Return the modality, typed as the class `kind`, if it is an instance of it; otherwise None."""
        return self if isinstance(self, kind) else None

    @property
    def has_own_loader(self) -> bool:
        """True if the modality implements `load`, instead of interpreting raw examples read by feller."""
        return type(self).load is not Modality.load

    def load(self, source: str) -> RawData:
        """Read a file or folder. The method must also be able to read the samples that the modality writes.

        Raises:
            InputError: If the path does not exist, or the file is damaged.
        """
        raise UsageError(f"{self.display_name} have no custom loader", remedy="Implement load(source) -> RawData")

    def fit(self: M, raw: RawData) -> M:
        """Return a copy of the modality with statistics of the training data, such as means; default: return self."""
        return self

    @property
    def comparison_key(self) -> object:
        """Key that is equal for the modalities of two comparable datasets: all fields except the class names."""
        return replace(self, classes=()) if hasattr(self, "classes") else self  # type: ignore[type-var]

    @property
    def figure_key(self) -> object:
        """Key that is equal for the modalities of two datasets that can be drawn in one figure."""
        return self

    def fill_undecided(self, state: State) -> State:
        """Replace undecided tokens (masks) of an intermediate state, so that it can be decoded."""
        return state

    def count_units(self, data: "Dataset") -> int:
        """Return the amount of data in the units of `min_held_out`; default: the number of examples."""
        return len(data)

    @property
    def entry_label_counts(self) -> dict[str, int]:
        """Number of classes, by name of the condition, for conditions that label the entries of a state.

        An example is the phone of each frame of speech. Such conditions must be given: they are never drawn at random.
        """
        return {}

    @property
    def writers(self) -> dict[str, Writer]:
        """Writers of samples by file suffix; the writer of the empty suffix writes a folder."""
        by_suffix: dict[str, Writer] = {".npz": self._write_arrays, "": self._write_folder}
        return {**dict.fromkeys((".csv", ".parquet"), self._write_frame), **by_suffix} if self._has_frame else by_suffix

    @property
    def _has_frame(self) -> bool:
        return type(self).frame is not Modality.frame

    def _write_arrays(self, values: State, given: Cond, out: pathlib.Path) -> None:
        write_arrays(self.arrays(values, given), out)

    def _write_frame(self, values: State, given: Cond, out: pathlib.Path) -> None:
        frame = self.frame(values, given)
        if out.suffix.lower() == ".parquet":
            write_parquet(lambda: frame, out)
        else:
            replace_file(out, frame.to_csv(index=False))

    def _write_folder(self, values: State, given: Cond, out: pathlib.Path) -> None:
        count = min(num_examples(values), MAX_FIGURE_EXAMPLES)
        sample_folder.prepare(out)
        name = ROWS if self._has_frame else "samples.npz"
        first_examples = tree_map(lambda leaf: leaf[:count], values), tree_map(lambda leaf: leaf[:count], given)
        sample_folder.save_overview(self.show(*first_examples), out, [name])
        self.writers[pathlib.PurePath(name).suffix](values, given, out / name)

    @property
    def array_forms(self) -> dict[str, Writer]:
        """Writers of NumPy files by suffix, .npz and .npy; an .npy file stores neither names nor labels."""
        return {
            ".npz": self._write_arrays,
            ".npy": lambda values, given, out: write_array(self.arrays(values, {})["samples"], out),
        }

    @property
    def log_scale(self) -> float | None:
        """Log of the data volume per state volume: nll(values) = nll(states) + log_scale; None if there is no density.

        For a user-defined modality the default is None, so that no wrong likelihood is reported.
        """
        return None if self.has_own_loader or not self.has_density else 0.0

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends an example early; None if all examples have full length."""
        return None

    @property
    def own_recipe(self) -> str:
        """Name of the recipe that the settings of this modality need; empty for the default recipe of its class."""
        return ""

    @property
    def aux_networks(self) -> dict[str, nn.Module]:
        """Auxiliary networks that encode or decode the data, by the stem of their weight file."""
        return {}

    def image_values(self, values: Any) -> Tensor | None:
        """Return all images in the values, uint8 [m, c, h, w], to train image networks; None without images."""
        return None

    def with_statistics(self, data: "Dataset") -> "Dataset":
        """Add exact statistics of the data to the modality; private training must not use them. Default: add none."""
        return data

    def for_metrics(self, data: "Dataset") -> "Dataset":
        """Convert data to the form that metrics compare; default: return data unchanged."""
        return data

    def for_training(self, data: "Dataset", rng: Rng) -> "Dataset":
        """Convert data to the form used for training, for example by resampling; default: return data unchanged."""
        return data

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        """Names of the components (leaves) of the state that a user can hold fixed while the others are sampled."""
        return ()

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Parse the value of a component (leaf) of the state that is held fixed during sampling.

        Args:
            leaf: Name of the component.
            text: Value of the component.

        Returns:
            The component of one state, [1, ...], and the class ids of the conditions that follow from it, by name.

        Raises:
            UsageError: If the text cannot be parsed.
        """
        raise UsageError(
            "data of this type cannot be conditioned on one of their parts",
            found=f"{leaf}={text}",
            remedy="Leave it out",
        )

    def load_condition(self, leaf: str, raw: RawExamples) -> tuple[Tensor | dict[str, Tensor], dict[str, int]]:
        """Load the value of a component (leaf) of the state that is held fixed during sampling.

        Args:
            leaf: Name of the component.
            raw: Contents of the file that holds the value.

        Returns:
            The component of one state, [1, ...], or a dict of components; and the class ids of the conditions that
            follow from it, by name.

        Raises:
            InputError: If the file does not hold exactly one suitable example.
        """
        raise InputError(f"{leaf} cannot be read from a file for this data type", remedy="Leave it out")

    def first_without_density(self, values: Any) -> int | None:
        """Return the index of the first example without a density, such as an incomplete array; default: None."""
        return None

    def num_entries(self, values: Any) -> Int64[Tensor, " n"]:
        """Return the number of entries of each example that are not padding."""
        return torch.full((num_examples(values),), values[0].numel())

    def with_text_length(self, length: int) -> "Modality | None":
        """Return this modality with texts of another number of tokens; None if examples are not texts."""
        return None

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add conditions that are functions of the given conditions; default: add none."""
        return given

    @abc.abstractmethod
    def space(self) -> Space:
        """Return the state space of the model."""

    @abc.abstractmethod
    def encode(self, values: Any) -> Any:
        """Convert values to a state: float32, with mean about 0 and scale about 1."""

    def dequantize(self, values: Any, rng: RandomStream) -> Any:
        """Convert values to states that have a density: discrete levels get uniform dequantisation noise."""
        return self.encode(values)

    @abc.abstractmethod
    def decode(self, state: Any) -> Any:
        """Convert a state to values.

        Raises:
            InputError: If the state is not finite.
        """

    def resample(self, values: Any, n: int, rng: Rng) -> Any:
        """Select `n` of the given examples so that they match the marginals of the modality more closely (raking).

        Raises:
            UsageError: If the modality has no known marginals.
        """
        raise UsageError(
            f"{self.display_name} store no marginals, which raking matches by selecting samples", remedy="Set rake=0"
        )

    def decode_soft(self, state: Any) -> Any:
        """Convert a state to values without rounding, to give rewards gradients; override it if values are integers."""
        return self.decode(state)

    def convert(self, data: "Dataset") -> "Dataset":
        """Convert a dataset of another modality of the same type of data to this modality; map labels by class name.

        Raises:
            InputError: If the data contain a label that is not a class of this modality.
        """
        old_classes, classes = data.modality.conditions.get("label", ()), self.conditions.get("label", ())
        if old_classes == classes or not old_classes or not classes or "label" not in data.given:
            return replace(data, modality=self)
        return replace(
            data, given={**data.given, "label": renumbered(data.given["label"], old_classes, classes)}, modality=self
        )

    def select_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns to read from a table with columns `names`; empty for all columns."""
        return ()

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Convert raw examples to (values, conditions) of this modality.

        Raises:
            InputError: If the type, shape or column names do not match.
        """
        raise InputError(self.display_name, raw.description, "Give a file of that type")

    def with_conditions(
        self: M, raw: RawExamples, names: Collection[str], known: Mapping[str, Condition] | None = None
    ) -> M:
        """Return a copy of the modality that selects columns or properties of the training data as conditions.

        The types in `known`, by name, are not recognised from the values.

        Raises:
            UsageError: If the data have no column or property of a name.
            InputError: If the values of a condition are constant, missing or invalid.
        """
        columns = {name: raw.condition_column(name) for name in names}
        if len(names) > len(raw.values):
            raise InputError("at most as many conditions as rows", f"{len(names)} for {len(raw.values)} rows")
        kinds = {name: (known or {}).get(name) or fit_condition(name, column) for name, column in columns.items()}
        return replace(self, selected_conditions=kinds)  # type: ignore[type-var]

    def conditions_from_raw(self, raw: RawExamples) -> Cond:
        """Return the values of the selected conditions that raw examples have, by name.

        Raises:
            InputError: If a value is invalid.
        """
        return {
            name: kind.encode(name, raw.condition_column(name))
            for name, kind in self.selected_conditions.items()
            if name in raw.condition_candidates
        }

    @property
    def read_size(self) -> int | None:
        """Size at which files are read for this modality (`longest` of `feller.read`); None if any size fits."""
        return None

    def dataset_from_raw(self, raw: RawExamples) -> "Dataset":
        """Convert raw examples to a dataset of this modality.

        Raises:
            InputError: If the type, shape or column names do not match.
        """
        fingerprint = fingerprint_of(raw) if self.has_computed_values else ""
        table = raw if isinstance(raw, RawTable) else None
        return Dataset(
            *self.values_from_raw(raw),
            self,
            raw.notes,
            properties=property_tensors(raw),
            fingerprint=fingerprint,
            raw_table=table,
        )

    @property
    def lenient(self) -> "Modality":
        """Copy of the modality that reads categories unknown to the model as the nearest known categories."""
        return self

    def strange(self, data: "Dataset") -> Sequence[str]:
        """Return notes on values of `data` that the training data lack, and on the known values that replace them.

        Raises:
            InputError: If an example has no valid representation.
        """
        return ()

    def arrays(self, values: Any, given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, or an array per key of the values, and the class names of each condition."""
        tensors = values if isinstance(values, dict) else {"samples": values}
        conditions = {name: classes for name, classes in self.conditions.items() if name in given}
        label_arrays = {name: np.array(classes)[given[name].cpu()] for name, classes in conditions.items()}
        labels = {"labels" if name == "label" else name: array for name, array in label_arrays.items()}
        selected = self.condition_arrays(given)
        return {name: leaf.detach().cpu().numpy() for name, leaf in tensors.items()} | labels | selected

    def condition_arrays(self, given: Cond) -> dict[str, np.ndarray]:
        """Return the selected conditions by name, [n, ...], without those that are null for all examples."""
        selected = [(name, kind, given[name]) for name, kind in self.selected_conditions.items() if name in given]
        return {name: kind.decode(values) for name, kind, values in selected if not kind.is_null(values).all()}

    def condition_cells(self, given: Cond) -> dict[str, np.ndarray]:
        """Return the selected conditions, except images, as table columns [n]; a vector is numbers between blanks."""
        arrays = {name: array for name, array in self.condition_arrays(given).items() if array.ndim <= 2}
        return {name: array if array.ndim == 1 else vector_cells(array) for name, array in arrays.items()}

    def condition_numbers(self, given: Cond, n: int) -> list[dict[str, float]]:
        """Return for each of n examples its selected conditions that are numbers, by name, without missing ones."""
        numbers = {name: array for name, array in self.condition_arrays(given).items() if array.dtype.kind == "f"}
        columns = {name: array.tolist() for name, array in numbers.items() if array.ndim == 1}
        return [{name: column[i] for name, column in columns.items() if not math.isnan(column[i])} for i in range(n)]

    def frame(self, values: Any, given: Cond) -> pd.DataFrame:
        """Return examples as a data frame, with the columns of their .csv file.

        Raises:
            UsageError: If the data are not tabular.
        """
        raise UsageError(f"{self.display_name} cannot be converted to a data frame", remedy="Use `numpy()`")

    def frames(self, values: Any) -> dict[str, pd.DataFrame]:
        """Return examples as one data frame per table, by name.

        Raises:
            UsageError: If the data are not several tables.
        """
        raise UsageError(f"{self.display_name} are not several tables", remedy="Use `frame()` or `numpy()`")

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        """Draw a figure of examples, `columns` per row."""
        figure = type(self).figure
        if figure is None:
            raise UsageError(
                f"{self.display_name} have no figure", remedy="Define a figure in the class: figure = FUNCTION"
            )
        return to_image(figure(values, given))

    def check_form(self, out: pathlib.Path) -> str:
        """Return the file suffix of `out`, which selects the writer; empty for a folder.

        Raises:
            UsageError: If this data type has no writer for the suffix.
        """
        suffix = "" if out.is_dir() else out.suffix.lower()
        suffix = suffix if suffix[1:2].isalpha() else ""  # a folder such as run-0.5 has no suffix
        if suffix not in self.writers:
            names = [*filter(None, self.writers), "a folder (no suffix)"]
            valid = f"{', '.join(names[:-1])}, or {names[-1]}" if names[1:] else names[0]
            raise UsageError(f"cannot write this data type as {suffix}", remedy=f"Use {valid}")
        return suffix

    def check_place(self, out: pathlib.Path) -> None:
        """Raise an error before sampling if examples cannot be written to `out`."""
        if not self.check_form(out):
            sample_folder.check_writable(out)

    def write(self, values: State, given: Cond, out: pathlib.Path) -> None:
        """Write examples in the format of the file suffix of `out`; if there is no suffix, write a folder.

        Raises:
            UsageError: If this data type has no writer for the suffix.
            InputError: If writing fails.
        """
        self.write_by(self.writers, values, given, out)

    def write_by(self, forms: Mapping[str, Writer], values: State, given: Cond, out: pathlib.Path) -> None:
        """Write examples as `write` does, but with the writers `forms`, by file suffix; '' stands for a folder."""
        suffix = self.check_form(out)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.nullcontext() if suffix else sample_folder.locked_folder(out):
                forms[suffix](values, given, out)
        except OSError as error:
            raise cannot_write(out, error) from error

    def class_index(self, key: str, text: str) -> int:
        """Return the class id of a class of the condition `key`, given by name or id.

        Raises:
            UsageError: If the condition or class does not exist; the message suggests similar names.
        """
        if not self.conditions:
            raise UsageError("this model has no conditions", found=f"{key}={text}", remedy="Leave it out")
        if key not in self.conditions:
            raise UsageError.unknown_name("given", key, self.conditions)
        classes = self.conditions[key]
        class_id = class_number(text, classes)
        if class_id is None:
            raise unknown_class(UsageError, key, text, classes)
        return class_id


def is_modality(value: object) -> TypeGuard[Modality]:
    """Return True for a modality object; a type guard for arguments that can be a modality or a shape."""
    return isinstance(value, Modality)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Data set: examples in data units, with their conditions and modality."""

    values: State
    given: Cond
    """Conditions by name, with one entry per example."""
    modality: Modality
    notes: tuple[str, ...] = ()
    """Notes about how the data were read."""
    groups: Int[Tensor, " n"] | None = None
    """Group id of each example; a split never separates the examples of a group."""
    properties: dict[str, Tensor] = field(default_factory=dict)
    """Real-valued properties of the examples by name, float64 [n] each; NaN if missing."""
    target: Target | None = None
    """Target that a regressor predicts; None without a target."""
    stream: Stream | None = None
    """Streamed dataset; if it is set, `values` and `given` hold an in-memory sample of the streamed examples."""
    fingerprint: str = ""
    """Hash of the file contents, if values are computed from the contents, so that their last bits depend on the
    CPU."""

    raw_table: RawTable | None = None
    """Raw cells of all table rows, for metrics of tables."""

    def __repr__(self) -> str:
        return f"<Dataset of {self.total:,} examples, {self.modality.display_name}>"

    def __len__(self) -> int:
        return num_examples(self.values)

    @property
    def total(self) -> int:
        """Number of examples, including streamed examples."""
        return len(self) if self.stream is None else len(self.stream)

    def in_memory_sample(self) -> "Dataset":
        """Return the in-memory sample of a streamed dataset as a dataset without a stream."""
        return self if self.stream is None else replace(self, stream=None)

    def take(self, numbers: Int64[Tensor, " m"]) -> "Dataset":
        """Return the examples with these indices in the whole dataset, including streamed examples, in this modality.

        Raises:
            InputError: If a file is damaged or has changed.
        """
        if self.stream is None:
            return self.subset(numbers)
        return Dataset(*self.stream.take(numbers), self.stream.modality).with_modality(self.modality)

    def require_in_memory(self, purpose: str) -> None:
        """Raise a UsageError if the dataset is streamed and `purpose` needs all examples."""
        if self.stream is not None:
            raise UsageError(
                f"{purpose} needs all examples in memory, and this dataset is streamed from shards",
                remedy="Give a file",
            )

    def numpy(self) -> np.ndarray:
        """Return the values of the examples as one NumPy array, in data units.

        Raises:
            UsageError: If the values are several arrays.
        """
        arrays = self.arrays()
        if "samples" not in arrays:
            raise UsageError(
                f"{self.modality.display_name} consist of several arrays, {', '.join(arrays)}", remedy="Use `arrays()`"
            )
        return arrays["samples"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the examples as .npz arrays: `samples`, or one array per key of the values, and the labels."""
        return self.modality.arrays(self.values, self.given)

    def frame(self) -> pd.DataFrame:
        """Return the examples as a DataFrame, with the columns of their .csv file and the dtypes of the data.

        Raises:
            UsageError: If the data are not tabular.
        """
        return self.modality.frame(self.values, self.given)

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the examples as one DataFrame per table, by name, if the data are tables that are linked by keys.

        Raises:
            UsageError: If the data are not several tables.
        """
        return self.modality.frames(self.values)

    def save(self, out: str | os.PathLike[str]) -> pathlib.Path:
        """Write the examples in the format of the file suffix of `out`; if there is no suffix, write a folder.

        Raises:
            UsageError: If this data type has no writer for the suffix.
            InputError: If writing fails.
        """
        path = pathlib.Path(out)
        self.modality.check_place(path)
        self.modality.write(self.values, self.given, path)
        return path

    def _repr_png_(self) -> bytes:
        """Return a figure of the first examples for notebooks."""
        examples = self if len(self) <= MAX_FIGURE_EXAMPLES else self.subset(torch.arange(MAX_FIGURE_EXAMPLES))
        buffer = io.BytesIO()
        self.modality.show(examples.values, examples.given).save(buffer, "PNG")
        return buffer.getvalue()

    def with_modality(self, modality: Modality) -> "Dataset":
        """Return the data, converted to another modality of the same type of data."""
        return modality.convert(self)

    def subset(self, index: Int[Tensor, " m"]) -> "Dataset":
        """Return the examples with these indices, in this order."""
        given = tree_map(lambda leaf: leaf[index], self.given)
        return replace(
            self,
            values=tree_map(lambda leaf: leaf[index], self.values),
            given=given,
            groups=None if self.groups is None else self.groups[index],
            properties={name: values[index] for name, values in self.properties.items()},
            stream=None,
            fingerprint=self.fingerprint and sha256_of(self.fingerprint, index),
            raw_table=None,
        )

    def targets(self, target: Target) -> Float64[Tensor, "n names"]:
        """Return the target properties of each example, or its class id for a class target."""
        return torch.stack([self.properties[name] for name in target.names], 1)


def unused_properties_note(names: Collection[str]) -> tuple[str, ...]:
    """Return a note on the numeric properties `names`, which a generator ignores and a regressor can predict."""
    if not names:
        return ()
    listed = abbreviated([*names])
    return (f"properties used only by regressors (--recipe regressor --target NAME): {listed}; generators ignore them",)


def notes_without_used(data: Dataset, names: Collection[str]) -> tuple[str, ...]:
    """Return the notes of a dataset; the note on unused properties no longer lists the properties `names`."""
    all_unused = unused_properties_note(data.properties)
    unused = unused_properties_note([name for name in data.properties if name not in names])
    return tuple(kept_note for note in data.notes for kept_note in (unused if note in all_unused else (note,)))


def property_tensors(raw: RawExamples) -> dict[str, Float64[Tensor, " n"]]:
    """Return the numeric properties of raw examples as tensors, by name."""
    return {name: torch.from_numpy(values).double() for name, values in raw.properties.items()}


def check_finite_state(state: State) -> None:
    """Raise an InputError if a state is not finite, because rounding would hide NaN and infinite values."""
    for leaf in leaves(state):
        not_finite = ~torch.isfinite(leaf.reshape(len(leaf), -1)).all(1)
        if not_finite.any():
            raise InputError(
                f"{int(not_finite.sum())} of {len(leaf)} samples are not finite: the network or the solver diverged",
                remedy="Use a larger NFE, or train again with a lower learning rate",
            )
