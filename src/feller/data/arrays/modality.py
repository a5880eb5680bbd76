"""Modality of arrays of real numbers with channels, such as time series, fields, volumes and latents."""

import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, append_dims
from feller.data.arrays.figure import draw_arrays
from feller.data.arrays.missing import fill_missing
from feller.data.files import sample_folder
from feller.data.labels import LABEL_NAMES, abbreviated, label_arrays, label_names, relabel
from feller.data.loading.raw import RawArrays, RawExamples, expect
from feller.data.modality import ROWS, Dataset, Modality, Writer, check_finite_state
from feller.spaces import Euclidean

ID, TIME = "id", "t"
"""Names of the columns of the series and of the time in tables of series."""
STEPS = "steps"
"""Name of the condition that is the number of steps of a series, if the series have different lengths."""
MAX_RANK = 4
"""Maximum number of axes of one array, including the channels."""
MAX_OVERVIEW_ARRAYS = 64
"""Maximum number of arrays in the overview image of a folder."""
MAX_FLOAT32_OFFSET = 1e4
"""Maximum ratio of mean and standard deviation of a channel for values in float32."""
TIME_TOLERANCE = 0.01
"""Maximum distance of the start of a series from a step of the model, in steps."""
FLOAT32_SCALES = 1e-30, 1e30
"""Range of standard deviations of channels for values in float32."""


@dataclass(frozen=True)
class Arrays(Modality):
    """Modality of real arrays of one shape with channels on the last axis, standardised per channel.

    Values are [n, *shape] in float32, or in float64 where float32 would round away their variation or overflow. NaN is
    a missing entry, or padding after the end of a series. A run of an older version has one mean and one standard
    deviation for all entries instead, and none of its axes has a meaning.
    """

    display_name = "arrays of numbers"
    raw_type = RawArrays

    shape: tuple[int, ...]
    """Shape of one array; the last axis holds the channels if there are statistics of channels."""
    mean: float = 0.0
    scale: float = 1.0
    """Standard deviation of all entries of the training data, if there are no statistics of channels."""
    classes: tuple[str, ...] = ()
    channel_means: tuple[float, ...] = ()
    channel_scales: tuple[float, ...] = ()
    """Standard deviation of each channel; empty for one scale for all entries."""
    columns: tuple[str, ...] = ()
    """Name of each channel; empty if the data name none."""
    lengths: tuple[str, ...] = ()
    """Numbers of steps along the first axis in the training data, ascending: the classes of the condition `steps`.
    Empty if all series have the same length."""
    has_missing: bool = False
    """True if the training data have missing entries."""
    start: float = 0.0
    """Time of the first step in files of series."""
    step: float = 1.0
    """Time between two steps in files of series."""
    has_common_start: bool = False
    """True if all training series have their first row at the time `start`, so that rows of other files are placed by
    their times. Otherwise each series begins at its own first row, as in runs of older versions."""

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1 or not 0 < self.scale < float("inf"):
            raise InputError("a shape and a positive scale", f"{self.shape} and {self.scale:g}")
        counts = {len(self.channel_means), len(self.channel_scales)}
        valid_scales = all(0 < scale < float("inf") for scale in self.channel_scales)
        if counts != {0} and (counts != {self.shape[-1]} or not valid_scales):
            raise InputError(f"a mean and a positive scale for each of {self.shape[-1]} channels", self.channel_scales)
        if self.columns and len(self.columns) != self.shape[-1]:
            raise InputError(f"{self.shape[-1]} names of channels", ", ".join(self.columns))
        if not all(name.isdecimal() and 0 < int(name) <= self.shape[0] for name in self.lengths):
            raise InputError(f"numbers of steps from 1 to {self.shape[0]}", ", ".join(self.lengths))

    @property
    def has_channels(self) -> bool:
        """True if the last axis holds channels, with one mean and scale each."""
        return bool(self.channel_scales)

    @property
    def is_series(self) -> bool:
        """True for series: arrays of steps and channels, which can be written as table rows."""
        return self.has_channels and len(self.shape) == 2

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, by default value or x1, x2, ..."""
        count = self.shape[-1]
        return self.columns or (("value",) if count == 1 else tuple(f"x{i + 1}" for i in range(count)))

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return {**({STEPS: self.lengths} if self.lengths else {}), **super().conditions}

    @property
    def comparison_key(self) -> object:
        return (self.shape, self.columns) if self.has_channels else super().comparison_key

    @property
    def figure_key(self) -> object:
        return self.comparison_key

    @property
    def writers(self) -> dict[str, Writer]:
        tables = dict.fromkeys((".csv", ".parquet"), self._write_frame) if self.is_series else {}
        return {**tables, **self.array_forms, "": self._write_folder}

    @property
    def log_scale(self) -> float | None:
        if self.lengths or self.has_missing:
            return None
        if self.has_channels:
            return float(np.prod(self.shape[:-1]) * np.log(self.channel_scales).sum())
        return float(np.prod(self.shape) * np.log(self.scale))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values: float64 if a channel has a large offset or an extreme scale, else float32."""
        low, high = FLOAT32_SCALES
        is_exact = all(
            abs(mean) <= MAX_FLOAT32_OFFSET * scale and low < scale < high
            for mean, scale in zip(self.channel_means, self.channel_scales, strict=True)
        )
        return torch.float32 if is_exact else torch.float64

    def condition_columns(self, values: Float[Tensor, " n *d"]) -> tuple[str, ...]:
        """Return the channels that are constant in each array, by name."""
        if not self.columns:
            return ()
        entries = values.flatten(1, -2)
        is_constant = ((entries == entries[:, :1]) | entries.isnan()).all(1).all(0)
        return tuple(name for name, same in zip(self.columns, is_constant.tolist(), strict=True) if same)

    def space(self) -> Euclidean:
        return Euclidean(self.shape)

    def encode(self, values: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """Convert values to states: subtract the mean and divide by the scale; missing entries are interpolated."""
        values = values.double()
        if not self.has_channels:
            return ((values - self.mean) / self.scale).float()
        states = (values - values.new_tensor(self.channel_means)) / values.new_tensor(self.channel_scales)
        return fill_missing(states).float()

    def decode(self, state: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """Convert states to values: multiply by the scale and add the mean; padding holds any number."""
        check_finite_state(state)
        state = state.double()
        if not self.has_channels:
            return (state * self.scale + self.mean).float()
        return (state * state.new_tensor(self.channel_scales) + state.new_tensor(self.channel_means)).to(self.dtype)

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add `valid` [n, steps], the mask of steps before the end of each series, which follows from `steps`."""
        if not self.lengths:
            return given
        sizes = torch.tensor([*map(int, self.lengths), self.shape[0]], device=given[STEPS].device)[given[STEPS]]
        return {**given, "valid": torch.arange(self.shape[0], device=sizes.device) < sizes[:, None]}

    def first_without_density(self, values: Float[Tensor, " n *d"]) -> int | None:
        incomplete = values.isnan().flatten(1).any(1)
        return int(incomplete.double().argmax()) if bool(incomplete.any()) else None

    def num_entries(self, values: Float[Tensor, " n *d"]) -> Int64[Tensor, " n"]:
        return (~values.isnan()).flatten(1).sum(1)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Convert raw arrays to (values, conditions); shorter series are padded with NaN.

        A length that the training data lack becomes the null class of the condition `steps`.
        """
        raw = expect(raw, RawArrays)
        values = self._in_shape(raw)
        if not self.has_channels:
            if np.isnan(values).any():
                raise InputError("arrays without missing entries", "NaN")
            return torch.from_numpy(values).float(), relabel(raw, self.classes)
        tensor = torch.from_numpy(values).to(self.dtype)
        present, given = ~tensor.isnan(), relabel(raw, self.classes)
        if self.lengths:
            class_ids = {int(name): i for i, name in enumerate(self.lengths)}
            sizes = series_lengths(present).tolist()
            given[STEPS] = torch.tensor([class_ids.get(size, len(class_ids)) for size in sizes])
        return tensor, {**given, "valid": present} if self.lengths or not present.all() else given

    def _in_shape(self, raw: RawArrays) -> np.ndarray:
        """Return raw values with the shape of this modality; InputError if they do not fit."""
        values = raw.values
        if self.has_channels and values.ndim == len(self.shape):
            values = values[..., None]
        if self.columns and raw.columns:
            if {*self.columns} != {*raw.columns}:
                raise InputError(f"the channels {', '.join(self.columns)}", ", ".join(raw.columns))
            values = values[..., [raw.columns.index(name) for name in self.columns]]
        if self.is_series and raw.step is not None and values.shape[1] > 1:
            factor = round(raw.step / self.step)  # a file with few steps can have a larger spacing
            if factor < 1 or not math.isclose(factor * self.step, raw.step, rel_tol=1e-3):
                raise InputError(f"times with spacing {self.step:g}, as in training", f"{raw.step:g}")
            spread = np.full((len(values), (values.shape[1] - 1) * factor + 1, values.shape[2]), np.nan)
            spread[:, ::factor] = values
            values = spread
        if self.has_common_start and raw.starts is not None:
            values = self._at_times(values, raw)
        if self.is_series and values.ndim == 3 and values.shape[2:] == self.shape[1:]:
            used = int(series_lengths(torch.from_numpy(~np.isnan(values))).max())
            if used <= self.shape[0]:
                padding = ((0, 0), (0, max(0, self.shape[0] - values.shape[1])), (0, 0))
                values = np.pad(values[:, : self.shape[0]], padding, constant_values=np.nan)
        if values.shape[1:] != self.shape:
            raise InputError(f"arrays of shape [{', '.join(map(str, ('n', *self.shape)))}]", list(raw.values.shape))
        return np.ascontiguousarray(values)

    def _at_times(self, values: np.ndarray, raw: RawArrays) -> np.ndarray:
        """Shift series [n, steps, channels] from their own first rows to the steps of their times.

        InputError if a series begins before `start`, ends after the last step, or between two steps.
        """
        starts = np.asarray(raw.starts)
        exact = (starts - self.start) / self.step
        last = exact + series_lengths(torch.from_numpy(~np.isnan(values))).numpy() - 1
        bad = ~((exact > -0.5) & (last < self.shape[0] - 0.5) & (np.abs(exact - np.round(exact)) < TIME_TOLERANCE))
        if bad.any():
            i = int(bad.argmax())
            raise InputError(
                f"times from {self.start:g} to {self.start + (self.shape[0] - 1) * self.step:g} in steps of"
                f" {self.step:g}, as in training",
                f"{starts[i]:g} to {starts[i] + (last[i] - exact[i]) * self.step:g}",
                "Write the times from the start of each series",
                **raw.error_fields(i),
            )
        offsets = np.round(exact).astype(np.int64)
        placed = np.full((len(values), int(offsets.max()) + values.shape[1], values.shape[2]), np.nan)
        steps = offsets[:, None] + np.arange(values.shape[1])
        placed[np.arange(len(values))[:, None], steps] = values
        return placed

    def padded(self, values: Float[Tensor, " n *d"], given: Cond) -> Float[Tensor, " n *d"]:
        """Return values with NaN after the end of each series."""
        if not self.lengths or STEPS not in given:
            return values
        valid = self.add_derived_conditions({STEPS: given[STEPS].to(values.device)})["valid"]
        return torch.where(append_dims(valid, values), values, torch.nan)

    def arrays(self, values: Float[Tensor, " n *d"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples` [n, *shape] with NaN for padding, and labels, columns, conditions."""
        columns = {"columns": np.array(self.columns)} if self.columns else {}
        samples = self.padded(values.detach(), given).cpu().numpy()
        return {"samples": samples, **label_arrays(given, self.classes), **columns, **self.condition_arrays(given)}

    def frame(self, values: Float[Tensor, " n *d"], given: Cond) -> pd.DataFrame:
        """Return series as a long table with the columns id, t and the channels, one row per step."""
        if not self.is_series:
            raise UsageError("only series can be converted to a data frame", remedy="Use `numpy()`")
        samples = self.padded(values.detach(), given).cpu()
        sizes = series_lengths(~samples.isnan()).numpy()
        series = np.repeat(np.arange(len(samples)), sizes)
        steps = np.concatenate([np.arange(size) for size in sizes]) if len(sizes) else np.zeros(0, dtype=np.int64)
        times = self.start + self.step * steps
        whole = float(self.start).is_integer() and float(self.step).is_integer()
        columns: dict[str, np.ndarray] = {
            ID: series + sample_folder.first_number(),
            TIME: times.astype(np.int64) if whole else times,
        }
        columns |= dict(zip(self.channel_names, samples.numpy()[series, steps].T, strict=True))
        names = label_names(given, self.classes)
        if names is not None:
            columns["label"] = np.array(names)[series]
        return pd.DataFrame(columns | {name: cells[series] for name, cells in self.condition_cells(given).items()})

    def show(self, values: Float[Tensor, " n *d"], given: Cond, columns: int | None = None) -> Image.Image:
        """Draw lines of series, or slices of the first channel of other arrays."""
        return self.show_at_scale_of(values, given, None, columns)

    def show_at_scale_of(
        self, values: Tensor, given: Cond, other: Tensor | None, columns: int | None = None
    ) -> Image.Image:
        """Draw arrays with the axes and grey levels that also fit the values `other`."""
        if not self.has_channels:
            planes = (
                values.detach().cpu().reshape(len(values), -1, *self.shape[-2:] if len(self.shape) > 1 else (1, -1))
            )
            levels = ((planes[:, 0] - self.mean) / (6 * self.scale) + 0.5).clamp(0, 1) * 255
            return sample_folder.tile(levels.round().to(torch.uint8).numpy()[..., None], columns)
        samples = self.padded(values.detach(), given).cpu().numpy()
        reference = None if other is None else other.detach().cpu().numpy()
        return draw_arrays(samples, self.channel_names, self.start, self.step, columns, reference)

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        name = ROWS if self.is_series else "samples.npz"
        first = {key: leaf[:MAX_OVERVIEW_ARRAYS] for key, leaf in given.items() if isinstance(leaf, Tensor)}
        sample_folder.save_overview(self.show(values[:MAX_OVERVIEW_ARRAYS], first), out, [name])
        self.writers[pathlib.PurePath(name).suffix](values, given, out / name)


def series_lengths(present: Bool[Tensor, " n steps *rest"]) -> Int[Tensor, " n"]:
    """Return the number of steps of each series up to the last one with an entry that is present."""
    steps = present[:, :, None].flatten(2).any(2)
    return (steps * torch.arange(1, steps.shape[1] + 1)).amax(1)


def array_dataset(raw: RawArrays) -> Dataset:
    """Build a data set of arrays; its modality gets the mean and standard deviation of each channel.

    Raises:
        InputError: If arrays have more than three axes besides the channels, an array or a channel is empty, a channel
            is constant, its range is too small or too large for a standard deviation, or the name of a channel repeats
            or is that of another column in tables of series.
    """
    values = raw.values if raw.values.ndim > 2 else raw.values[..., None]
    rank = values.ndim - 1
    if rank > MAX_RANK:
        raise InputError(
            f"arrays with at most {MAX_RANK} axes, of which the last holds the channels",
            f"{rank} axes, {list(values.shape)}",
            "Merge axes, or split the arrays along one",
        )
    channels = values.reshape(-1, values.shape[-1])
    _check_names(raw.columns, is_series=values.ndim == 3)
    names = raw.columns or tuple(f"channel {i + 1}" for i in range(values.shape[-1]))
    present = ~np.isnan(values)
    if (empty := ~present.any(tuple(range(1, values.ndim)))).any():
        raise InputError("arrays with values", "only missing entries", **raw.error_fields(int(empty.argmax())))
    means, scales = [], []
    for i, name in enumerate(names):
        column = channels[:, i][~np.isnan(channels[:, i])]
        if not len(column):
            raise InputError("numbers", "only missing entries", "Leave out the channel", column=name)
        if column.max() == column.min():
            raise InputError(
                "a channel that varies", f"the constant {column[0]:g}", "Leave out the channel", column=name
            )
        mean, scale = _mean_and_scale(column)
        if not (math.isfinite(mean) and 0 < scale < math.inf):
            raise InputError("the range of values is too small or too large", remedy="Change the unit", column=name)
        means.append(mean)
        scales.append(scale)
    lengths = series_lengths(torch.from_numpy(present)).numpy()
    steps = np.arange(values.shape[1])
    before_end = (steps < lengths[:, None]).reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
    num_missing = int((~present & before_end).sum())
    is_ragged = len(np.unique(lengths)) > 1
    modality = Arrays(
        (int(lengths.max()), *values.shape[2:]),
        classes=raw.classes,
        channel_means=tuple(means),
        channel_scales=tuple(scales),
        columns=raw.columns,
        lengths=tuple(str(size) for size in np.unique(lengths).tolist()) if is_ragged else (),
        has_missing=num_missing > 0,
        start=raw.start,
        step=1.0 if raw.step is None else raw.step,
        has_common_start=raw.starts is not None and bool((raw.starts == raw.starts[0]).all()),
    )
    return Dataset(*modality.values_from_raw(raw), modality, (*raw.notes, *_notes(values, lengths, num_missing)))


def _check_names(names: Sequence[str], *, is_series: bool) -> None:
    """Raise an InputError if channels share a name, or a channel of series has the name of a column of their tables."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two channels are named {name!r}", remedy="Rename one", column=name)
        if is_series and (name in (ID, TIME) or name.lower() in LABEL_NAMES):
            reserved = ", ".join((ID, TIME, *LABEL_NAMES))
            expected = f"channels with other names than {reserved}, which tables of series use"
            raise InputError(expected, name, "Rename the channel", column=name)


def _mean_and_scale(values: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return mean and standard deviation, also if the squares of the values underflow or overflow."""
    with np.errstate(all="ignore"):
        mean, scale = float(values.mean()), float(values.std())
        if math.isfinite(mean) and 0 < scale < math.inf:
            return mean, scale
        low, span = values.min(), np.ptp(values)
        unit = (values - low) / span
        return float(low + unit.mean() * span), float(unit.std() * span)


def _notes(values: np.ndarray, lengths: np.ndarray, num_missing: int) -> Sequence[str]:
    sides, channels = " x ".join(map(str, values.shape[1:-1])), values.shape[-1]
    plural = "" if channels == 1 else "s"
    notes = [f"read as {len(values):,} arrays of {sides} entries with {channels} channel{plural} on the last axis"]
    distinct = np.unique(lengths)
    if len(distinct) > 1:
        notes.append(
            f"series of different lengths are padded: {abbreviated([str(n) for n in distinct.tolist()])} steps"
        )
    if num_missing:
        notes.append(f"{num_missing:,} missing entries are ignored in training")
    return notes
