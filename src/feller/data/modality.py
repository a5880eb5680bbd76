"""Modality and Dataset: raw files to tensors of a model, and back to files."""

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
    """Numbers with their means and deviations in the training data, or one class of several."""

    names: tuple[str, ...]
    """What files call them."""
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    """Deviations; means and these have one entry for each name, and none where it is a class."""
    classes: tuple[str, ...] = ()
    """Names of the classes; then there is one name only."""
    all_classes: tuple[str, ...] = ()
    """All classes that data have, where only some of these are told apart."""

    def __post_init__(self) -> None:
        numbers = 0 if self.classes else len(self.names)
        right = len(self.means) == len(self.scales) == numbers and all(0 < s < math.inf for s in self.scales)
        if not {*self.classes} <= {*(self.all_classes or self.classes)}:
            raise InputError(f"classes among {', '.join(self.all_classes)}", ", ".join(self.classes))
        if not self.names or not right or (self.classes and len(self.names) > 1):
            raise InputError("a mean and a positive deviation for each number, or classes of one", self)

    @property
    def num_outputs(self) -> int:
        """How many numbers a network answers with: one for each name, or a logit for each class."""
        return len(self.classes) or len(self.names)


MAX_FIGURE_EXAMPLES = 256
"""Examples in the picture of a notebook, at most."""
Writer = Callable[[State, Cond, pathlib.Path], None]
ROWS = "samples.csv"
"""Table in a folder of samples."""


@dataclass(frozen=True, eq=False)
class RawData:
    """Examples as a file holds them, before a modality of your own turns them into states."""

    values: Tensor | dict[str, Tensor]
    """A tensor [n, ...], or several by their names, in the units of the file."""
    given: Cond = field(default_factory=dict)
    """Number of the class of each example, int64 [n], of each of the conditions."""
    notes: tuple[str, ...] = ()
    """What was decided while reading, for people."""
    properties: dict[str, Tensor] = field(default_factory=dict)
    """Numbers beside the values, [n] each, which a regressor may tell."""


M = TypeVar("M", bound="Modality")


class Modality(abc.ABC):
    """A kind of data. Values are in the units of the files, states in those of the model.

    One of your own is a frozen dataclass whose fields a run records. It has `name`, `suffixes`, `figure` and `recipe`,
    implements `load`, `space`, `encode` and `decode`, and `fit` if it learns statistics; with `frame` its samples are
    tables, and with `metrics` reports judge them. `feller.testing.check_modality` tries all of it.
    """

    name: ClassVar[str] = ""
    """By which it is registered, of one of your own."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of the files that `load` reads, such as .csv."""
    metrics: ClassVar[Sequence[Callable[[Any, Any], float]]] = ()
    """Functions of values of samples and of real examples that return a distance: 0 where they are alike."""
    figure: ClassVar[Callable[..., Any] | None] = None
    """Function of values and conditions that returns a matplotlib figure or a PIL image."""
    recipe: ClassVar[str | Callable[..., Any]] = ""
    """What a fit learns by default: the name of a recipe, or a function of data and size."""
    display_name: ClassVar[str] = "data of a kind of your own"
    """What people call such data."""
    raw_type: ClassVar[type[RawExamples]] = RawExamples
    """What their files hold; some kinds want to hear of another before one of its examples is found too large."""
    min_held_out: ClassVar[int] = 50
    """Held-out examples, or `unit_name` of them, below which a comparison with them would be chance."""
    unit_name: ClassVar[str] = ""
    """Of what examples are made, where that is counted in place of them."""
    has_computed_values: ClassVar[bool] = False
    """Whether values are computed from what files hold, so that their last bits depend on the processor."""
    is_tabular: ClassVar[bool] = False
    """Whether examples are rows, of which all may be the same."""
    samples_as_frame: ClassVar[bool] = False
    """Whether samples are given as a data frame."""
    has_vocabulary: ClassVar[bool] = False
    """Whether examples are words with a vocabulary."""
    is_manifold: ClassVar[bool] = False
    """Whether examples are points of a space that is not flat."""
    is_identified_by_notes: ClassVar[bool] = False
    """Whether the notes of older runs tell their data from others, where computed values do not."""
    is_read_with_model: ClassVar[bool] = False
    """Whether the data of a run are read again by what its model knows of them, and not anew."""
    has_density: ClassVar[bool] = True
    """Whether states have a density, so that a likelihood of values follows."""
    has_schema: ClassVar[bool] = False
    """Whether data are read by a schema that the model keeps."""
    file_conditions: ClassVar[dict[str, str]] = {}
    """Those of the leaves that a person gives by naming a file, and what must be in it."""

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of each condition: of the label, where data are divided into `classes`."""
        classes = () if self.has_own_loader else getattr(self, "classes", ())
        return {"label": classes} if classes else {}

    def view(self, kind: type[M]) -> M | None:
        """Return this as data of another kind, for what goes with that alone; None if it is none."""
        return self if isinstance(self, kind) else None

    @property
    def has_own_loader(self) -> bool:
        """Whether it reads files itself, by `load`, instead of giving a meaning to what feller finds in them."""
        return type(self).load is not Modality.load

    def load(self, source: str) -> RawData:
        """Read a file or a folder; samples that were written are read by it, too.

        Raises:
            InputError: If it is not there, or damaged.
        """
        raise UsageError(
            f"{self.display_name} are not read by a loader of their own", remedy="Implement load(source) -> RawData"
        )

    def fit(self: M, raw: RawData) -> M:
        """Return the same with the statistics of training data, such as their mean; as it is by default."""
        return self

    @property
    def comparison_key(self) -> object:
        """What data must agree in to be compared: all but the names of classes."""
        return replace(self, classes=()) if hasattr(self, "classes") else self  # type: ignore[type-var]

    @property
    def figure_key(self) -> object:
        """What two sets must agree in to be drawn beside each other."""
        return self

    def fill_undecided(self, state: State) -> State:
        """Return a state on its way as one that can be decoded: symbols that are not decided yet are others."""
        return state

    def count_units(self, data: "Dataset") -> int:
        """Return how much data there are, of which `min_held_out` are enough: by default how many examples."""
        return len(data)

    @property
    def entry_label_counts(self) -> dict[str, int]:
        """How many labels an entry of a state may have, by name; they are given with each example and never drawn."""
        return {}

    @property
    def writers(self) -> dict[str, Writer]:
        """What writes each ending of a file; the ending of a folder is empty."""
        forms: dict[str, Writer] = {".npz": self._write_arrays, "": self._write_folder}
        return {**dict.fromkeys((".csv", ".parquet"), self._write_frame), **forms} if self._has_frame else forms

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
        few = min(num_examples(values), MAX_FIGURE_EXAMPLES)
        sample_folder.prepare(out)
        name = ROWS if self._has_frame else "samples.npz"
        some = tree_map(lambda leaf: leaf[:few], values), tree_map(lambda leaf: leaf[:few], given)
        sample_folder.save_overview(self.show(*some), out, [name])
        self.writers[pathlib.PurePath(name).suffix](values, given, out / name)

    @property
    def array_forms(self) -> dict[str, Writer]:
        """Those of them that write arrays, for kinds whose samples are one: .npy has no names and labels."""
        return {
            ".npz": self._write_arrays,
            ".npy": lambda values, given, out: write_array(self.arrays(values, {})["samples"], out),
        }

    @property
    def log_scale(self) -> float | None:
        """Log volume of values per volume of states: nll(values) = nll(states) + log_scale; None without a density.

        None of a modality of your own that does not say it, so that nothing wrong is reported.
        """
        return None if self.has_own_loader or not self.has_density else 0.0

    @property
    def eos_token_id(self) -> int | None:
        """Symbol with which an example ends before its row does; None where they fill their rows."""
        return None

    @property
    def aux_networks(self) -> dict[str, nn.Module]:
        """Networks that it needs to read and write, by the names of the files that keep their weights; none do."""
        return {}

    def image_values(self, values: Any) -> Tensor | None:
        """Return all pictures among values, uint8 [m, c, h, w], for what learns of pictures alone; None without any."""
        return None

    def with_statistics(self, data: "Dataset") -> "Dataset":
        """Return data whose modality knows exact statistics of them, which no private fit may tell: as they are."""
        return data

    def for_metrics(self, data: "Dataset") -> "Dataset":
        """Return data as measures of their kind want them: as they are."""
        return data

    def for_training(self, data: "Dataset", rng: Rng) -> "Dataset":
        """Return data as they are learned, such as in other shares: as they are."""
        return data

    @property
    def conditionable_leaves(self) -> tuple[str, ...]:
        """Names of the parts of a state that a person can give, while the others are drawn."""
        return ()

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Return a leaf as one state, [1, ...], from what a person writes, and the conditions that follow from it.

        Raises:
            UsageError: If the text does not say it.
        """
        raise UsageError("no part of these data can be given", found=f"{leaf}={text}", remedy="Leave it out")

    def load_condition(self, leaf: str, raw: RawExamples) -> tuple[Tensor | dict[str, Tensor], dict[str, int]]:
        """Return a leaf as one state, [1, ...], or several by their names, from what a file holds.

        It is as `parse_condition`.

        Raises:
            InputError: If it holds something else, or more than one.
        """
        raise InputError(f"{leaf} is no part of these data that a file gives", remedy="Leave it out")

    def num_entries(self, values: Any) -> Int64[Tensor, " n"]:
        """Return how many symbols of each example mean something."""
        return torch.full((num_examples(values),), values[0].numel())

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add the conditions that follow from others; none do."""
        return given

    @abc.abstractmethod
    def space(self) -> Space:
        """Return where the states live."""

    @abc.abstractmethod
    def encode(self, values: Any) -> Any:
        """Turn values into a state: float32, mean about zero, scale about one."""

    def dequantize(self, values: Any, rng: RandomStream) -> Any:
        """Turn values into states that have a density: kinds with whole levels fill them up with uniform noise."""
        return self.encode(values)

    @abc.abstractmethod
    def decode(self, state: Any) -> Any:
        """Turn a state into values.

        Raises:
            InputError: If it is not finite.
        """

    def resample(self, values: Any, n: int, rng: Rng) -> Any:
        """Return n of more values than that, so that what is known of all of them together holds better.

        Raises:
            UsageError: If nothing is known.
        """
        raise UsageError(f"nothing is known of the shares of {self.display_name}", remedy="Leave rake at 0")

    def decode_soft(self, state: Any) -> Any:
        """Turn a state into values that are not rounded and have a gradient, as wishes see them.

        Kinds whose values are whole numbers override this; their wishes meet values between those of real data.
        """
        return self.decode(state)

    def convert(self, data: "Dataset") -> "Dataset":
        """Return data of another modality of the same kind as this one sees them; the same values.

        Raises:
            InputError: If they have a class that this one does not know.
        """
        theirs, ours = data.modality.conditions.get("label", ()), self.conditions.get("label", ())
        if theirs == ours or not theirs or not ours or "label" not in data.given:
            return replace(data, modality=self)
        return replace(
            data, given={**data.given, "label": renumbered(data.given["label"], theirs, ours)}, modality=self
        )

    def select_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of a table that are read, where others and missing cells are left out; none for all."""
        return ()

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        """Turn what feller found in a file into values and conditions of this modality.

        Raises:
            InputError: If it is of another kind, shape or naming.
        """
        raise InputError(self.display_name, raw.description, "Name a file that they are read from")

    @property
    def read_size(self) -> int | None:
        """Size that files are read with to be of this modality, see `data.loading.dataset_reader`; None for any."""
        return None

    def dataset_from_raw(self, raw: RawExamples) -> "Dataset":
        """Return what a file holds as data of this modality.

        Raises:
            InputError: If it is of another kind, shape or naming.
        """
        fingerprint = fingerprint_of(raw) if self.has_computed_values else ""
        cells = raw if isinstance(raw, RawTable) else None
        return Dataset(
            *self.values_from_raw(raw),
            self,
            raw.notes,
            properties=property_tensors(raw),
            fingerprint=fingerprint,
            raw_table=cells,
        )

    @property
    def lenient(self) -> "Modality":
        """The same, which takes what was never learned for something near that it knows; `strange` says so."""
        return self

    def strange(self, data: "Dataset") -> Sequence[str]:
        """Say which examples, as they were read, are unlike what was learned, and what they count as.

        Raises:
            InputError: If one cannot be one at all.
        """
        return ()

    def arrays(self, values: Any, given: Cond) -> dict[str, np.ndarray]:
        """Return what an .npz holds: `samples`, or the leaves, and the names of the classes of each condition."""
        parts = values if isinstance(values, dict) else {"samples": values}
        known = {name: classes for name, classes in self.conditions.items() if name in given}
        named = {name: np.array(classes)[given[name].cpu()] for name, classes in known.items()}
        labels = {"labels" if name == "label" else name: words for name, words in named.items()}
        return {name: leaf.detach().cpu().numpy() for name, leaf in parts.items()} | labels

    def frame(self, values: Any, given: Cond) -> pd.DataFrame:
        """Return a data frame with the columns that a .csv of examples has.

        Raises:
            UsageError: If such data are no table.
        """
        raise UsageError(f"{self.display_name} are no table", remedy="Take `numpy()`")

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        """Draw a picture for people."""
        figure = type(self).figure
        if figure is None:
            raise UsageError(f"{self.display_name} have no figure", remedy="Give the class one: figure = FUNCTION")
        return to_image(figure(values, given))

    def check_form(self, out: pathlib.Path) -> str:
        """Return the ending that decides how examples are written; none for a folder.

        Raises:
            UsageError: If this kind of data cannot be written so.
        """
        ending = "" if out.is_dir() else out.suffix.lower()
        ending = ending if ending[1:2].isalpha() else ""  # a folder may be called run-0.5
        if ending not in self.writers:
            known = ", ".join(form for form in self.writers if form)
            raise UsageError(
                f"cannot write this kind of data as {ending}", remedy=f"Choose {known}, or a folder (no ending)"
            )
        return ending

    def check_place(self, out: pathlib.Path) -> None:
        """Refuse a place that examples cannot be written to, before they are made."""
        if not self.check_form(out):
            sample_folder.check_writable(out)

    def write(self, values: State, given: Cond, out: pathlib.Path) -> None:
        """Write examples in the form that the ending of `out` names; without an ending, a folder.

        Raises:
            UsageError: If this kind of data cannot be written so.
            InputError: If the disk refuses.
        """
        self.write_by(self.writers, values, given, out)

    def write_by(self, forms: Mapping[str, Writer], values: State, given: Cond, out: pathlib.Path) -> None:
        """Write examples as `write` does, by other forms."""
        ending = self.check_form(out)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.nullcontext() if ending else sample_folder.locked_folder(out):
                forms[ending](values, given, out)
        except OSError as error:
            raise cannot_write(out, error) from error

    def class_index(self, key: str, text: str) -> int:
        """Return the number of a class that a person names, or counts where no name is a whole number.

        Raises:
            UsageError: If there is no such condition or class; says which are near.
        """
        if not self.conditions:
            raise UsageError("this model has no conditions", found=f"{key}={text}", remedy="Leave it out")
        if key not in self.conditions:
            raise UsageError.unknown_name("given", key, self.conditions)
        classes = self.conditions[key]
        number = class_number(text, classes)
        if number is None:
            raise unknown_class(UsageError, key, text, classes)
        return number


def is_modality(value: object) -> TypeGuard[Modality]:
    """Tell a modality from a shape, or from what is neither, where a person may give either."""
    return isinstance(value, Modality)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples in the units of their files."""

    values: State
    given: Cond
    """Conditions, one entry per example."""
    modality: Modality
    notes: tuple[str, ...] = ()
    """What was decided while reading, for people."""
    groups: Int[Tensor, " n"] | None = None
    """Number of the group of each example, which share parts, so that a split must keep them together."""
    properties: dict[str, Tensor] = field(default_factory=dict)
    """Numbers that files tell of examples beside their values, [n] in float64 each; not-a-number where one is not."""
    target: Target | None = None
    """Which of the properties a network is to tell of other examples, where that is asked."""
    stream: Stream | None = None
    """All examples, where memory holds a sample of them alone: values and conditions are those of the sample."""
    fingerprint: str = ""
    """Hash of what was read, where values are computed from it: their last bits depend on the processor."""

    raw_table: RawTable | None = None
    """The table as it is written, where all rows of one were read; measures look at it."""

    def __repr__(self) -> str:
        """Say in a line what they are; `numpy()` and `frame()` give the examples."""
        return f"<Dataset of {self.total:,} examples, {self.modality.display_name}>"

    def __len__(self) -> int:
        return num_examples(self.values)

    @property
    def total(self) -> int:
        """How many examples there are, with those that memory does not hold."""
        return len(self) if self.stream is None else len(self.stream)

    def in_memory_sample(self) -> "Dataset":
        """Return what memory holds alone."""
        return self if self.stream is None else replace(self, stream=None)

    def take(self, numbers: Int64[Tensor, " m"]) -> "Dataset":
        """Read examples by their numbers among all, as this modality sees them.

        Raises:
            InputError: If a file is damaged, or is another by now.
        """
        if self.stream is None:
            return self.subset(numbers)
        return Dataset(*self.stream.take(numbers), self.stream.modality).with_modality(self.modality)

    def require_in_memory(self, purpose: str) -> None:
        """Raise a UsageError on data that memory does not hold, for what must see all of them at once."""
        if self.stream is not None:
            raise UsageError(
                f"{purpose} needs all examples in memory, and shards are never read as a whole", remedy="Give a file"
            )

    def numpy(self) -> np.ndarray:
        """Return the values as one array, in the units and layout of the data.

        Raises:
            UsageError: If they are several arrays.
        """
        arrays = self.arrays()
        if "samples" not in arrays:
            raise UsageError(
                f"{self.modality.display_name} are several arrays, {', '.join(arrays)}", remedy="Take `arrays()`"
            )
        return arrays["samples"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what an .npz of the examples holds: `samples`, or several leaves, and labels and names beside them."""
        return self.modality.arrays(self.values, self.given)

    def frame(self) -> pd.DataFrame:
        """Return the examples as a DataFrame, with the columns that a .csv of them has, and the types of the data.

        Raises:
            UsageError: If such data are no table.
        """
        return self.modality.frame(self.values, self.given)

    def save(self, out: str | os.PathLike[str]) -> pathlib.Path:
        """Write the examples in the form that the ending of `out` names; without an ending, a folder.

        Raises:
            UsageError: If this kind of data cannot be written so.
            InputError: If the disk refuses.
        """
        place = pathlib.Path(out)
        self.modality.check_place(place)
        self.modality.write(self.values, self.given, place)
        return place

    def _repr_png_(self) -> bytes:
        """Show some in a notebook, as a picture of their kind."""
        some = self if len(self) <= MAX_FIGURE_EXAMPLES else self.subset(torch.arange(MAX_FIGURE_EXAMPLES))
        picture = io.BytesIO()
        self.modality.show(some.values, some.given).save(picture, "PNG")
        return picture.getvalue()

    def with_modality(self, modality: Modality) -> "Dataset":
        """Return the same data as another modality of their kind sees them."""
        return modality.convert(self)

    def subset(self, index: Int[Tensor, " m"]) -> "Dataset":
        """Return the examples with these numbers, in this order."""
        given = tree_map(lambda leaf: leaf[index], self.given)
        return replace(
            self,
            values=tree_map(lambda leaf: leaf[index], self.values),
            given=given,
            groups=None if self.groups is None else self.groups[index],
            properties={name: numbers[index] for name, numbers in self.properties.items()},
            stream=None,
            fingerprint=self.fingerprint and sha256_of(self.fingerprint, index),
            raw_table=None,
        )

    def targets(self, target: Target) -> Float64[Tensor, "n names"]:
        """Return the numbers of a target, or the number of the class of each example."""
        return torch.stack([self.properties[name] for name in target.names], 1)


def unused_properties_note(names: Collection[str]) -> tuple[str, ...]:
    """Return the note on numbers of files that a regressor can learn and a generator does not."""
    if not names:
        return ()
    listed = abbreviated([*names])
    return (
        f"numbers that only a regressor learns (--recipe regressor --target NAME): {listed}; a generator ignores them",
    )


def property_tensors(raw: RawExamples) -> dict[str, Float64[Tensor, " n"]]:
    """Return the numbers that a file tells of its examples beside their values."""
    return {name: torch.from_numpy(numbers).double() for name, numbers in raw.properties.items()}


def check_finite_state(state: State) -> None:
    """Refuse a state that is not finite, before rounding turns it into something that looks like data."""
    for leaf in leaves(state):
        bad = ~torch.isfinite(leaf.reshape(len(leaf), -1)).all(1)
        if bad.any():
            raise InputError(
                f"{int(bad.sum())} of {len(leaf)} samples are not finite: the network or the solver diverged",
                remedy="Use more calls, or train again at a lower rate",
            )
