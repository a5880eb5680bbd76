"""Data that are in memory already, as a file that a run can read again."""

import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from feller.data.arrays import write_arrays
from feller.errors import InputError, UsageError
from feller.record import replace_file

Given = Any
"""A DataFrame, an array or a tensor, or a dict of them: the leaves that an .npz of such data holds."""
FILES = {kind: f"data.{kind}" for kind in ("csv", "npz", "jsonl")}


def is_given(data: Any) -> bool:
    """Tell whether data are in memory, and not named."""
    return isinstance(data, pd.DataFrame | pd.Series | np.ndarray | Tensor | dict | list | tuple)


def keep(data: Given, folder: pathlib.Path) -> pathlib.Path:
    """Write data into a folder, and return the file, which `read` takes like any other.

    Args:
        data: A DataFrame becomes a table; an array [n, d] points, [n, h, w] or [n, h, w, 3] of uint8 pictures; a list
            of words texts; a dict may have `labels` beside `samples`, or the leaves of an .npz of such data.
        folder: Where to.

    Raises:
        UsageError: If they are of another kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)
    if isinstance(data, pd.Series):
        data = data.to_frame(data.name or "text")
    if isinstance(data, pd.DataFrame):
        if data.empty or not all(isinstance(name, str) for name in data.columns):
            raise UsageError("expected a DataFrame with rows, whose columns have names")
        file = folder / FILES["csv"]
        try:
            data.to_csv(file, index=False)
        except OSError as error:
            raise InputError(f"cannot write {file} ({error.strerror or error}); free the disk") from error
        return file
    leaves = data if isinstance(data, dict) else {"samples": data}
    arrays = {str(name): _array(name, leaf) for name, leaf in leaves.items()}
    words = arrays.get("samples")
    if words is not None and words.ndim == 1 and words.dtype.kind == "U":
        file, labels = folder / FILES["jsonl"], arrays.get("labels", np.full(len(words), None))
        lines = (
            {"text": text} | ({} if label is None else {"label": label})
            for text, label in zip(words.tolist(), labels.tolist(), strict=True)
        )
        replace_file(file, "".join(json.dumps(line) + "\n" for line in lines))
        return file
    file = folder / FILES["npz"]
    write_arrays(arrays, file)
    return file


def _array(name: Any, leaf: Any) -> np.ndarray:
    """Return plain numbers or words.

    Raises:
        UsageError: If a leaf is anything else.
    """
    found = leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else np.asarray(leaf)
    if found.dtype != object:
        return found
    if all(isinstance(word, str) for word in found.flat):
        return found.astype(str)
    try:
        return found.astype(float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"expected numbers or words in {name}, got Python objects") from error
