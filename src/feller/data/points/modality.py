"""Base class of modalities of numeric rows in named columns."""

import abc
import pathlib

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.core.pytree import Cond, State
from feller.data.files import sample_folder
from feller.data.labels import LABEL_NAMES, label_arrays, label_names
from feller.data.modality import Modality, Writer
from feller.data.points.number_tables import frame_of, write_table


class NumericRows(Modality):
    """Base class of modalities of numeric rows: values are float64 [n, d], in d named columns."""

    columns: tuple[str, ...]
    classes: tuple[str, ...]

    @abc.abstractmethod
    def plot(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        """Plot rows [n, d], coloured by their class indices `labels` [n]; a figure row has `across` panels."""

    @property
    def writers(self) -> dict[str, Writer]:
        """Functions that write samples, by file suffix: tables, arrays (.npy without names and labels), or a folder.

        The folder has the empty suffix; it contains a table and an image.
        """
        table = dict.fromkeys((".csv", ".tsv", ".txt", ".parquet"), self._write_table)
        return {**self.array_forms, **table, "": self._write_folder}

    def condition_columns(self, values: State) -> tuple[str, ...]:
        return self.columns

    def arrays(self, values: Float[Tensor, "n d"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, float64 [n, d]; `columns`, the column names; and the labels."""
        samples = values.detach().cpu().double().numpy()
        arrays = {"samples": samples, "columns": np.array(self.columns), **label_arrays(given, self.classes)}
        return {**arrays, **self.condition_arrays(given)}

    def frame(self, values: Float[Tensor, "n d"], given: Cond) -> pd.DataFrame:
        samples, labels = self.arrays(values, {})["samples"], label_names(given, self.classes)
        frame = frame_of(self.columns, samples, labels, self.condition_cells(given))
        is_integer = labels is not None and all(name.removeprefix("-").isdecimal() for name in self.classes)
        return frame.astype({LABEL_NAMES[0]: "int64"}) if is_integer else frame

    def show(self, values: Float[Tensor, "n d"], given: Cond, columns: int | None = None) -> Image.Image:
        """Plot the rows with the method `plot`; a figure row has `columns` panels. `given` holds the class labels."""
        arrays = self.arrays(values, given)
        return self.plot(arrays["samples"], arrays.get("labels"), columns)

    def _write_table(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        samples, labels = self.arrays(values, {})["samples"], label_names(given, self.classes)
        write_table(self.columns, samples, labels, out, self.condition_cells(given))

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.save_table(self.show(values, given), out, lambda table: self._write_table(values, given, table))
