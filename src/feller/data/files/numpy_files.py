"""Reading and writing of NumPy files, .npy and .npz, without pickled objects."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Generator

import numpy as np

from feller.core.errors import InputError, message_of
from feller.core.serialization import replace_file
from feller.data.files.decompression import check_expanded_size


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npy or .npz file, by name; the array of an .npy file is named `samples`.

    InputError if the file is damaged, or contains pickled Python objects, because these could execute code.
    """
    with _one_line_errors(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # zipfile reads at most `file_size` bytes of a member
                check_expanded_size(path, sum(member.file_size for member in archive.infolist()))
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"samples": loaded}
        with loaded:
            members = {name.lower(): loaded[name] for name in loaded.files}
    return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}


def array_names(path: pathlib.Path) -> frozenset[str]:
    """Return the names of the arrays in a file without reading the arrays; InputError if the file is damaged."""
    with _one_line_errors(path):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return frozenset({"samples"})
        with loaded:
            return frozenset(name.lower() for name in loaded.files)


@contextlib.contextmanager
def _one_line_errors(path: pathlib.Path) -> Generator[None]:
    """Turn any exception while reading into a one-line InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise a dozen types on damaged files
        message = message_of(error)
        # numpy's own message advises allow_pickle=True.
        reason = "it is damaged, or contains Python objects" if "pickle" in message else message
        raise InputError(
            f"cannot be read as numeric arrays ({reason})",
            remedy="Save numeric arrays with numpy.save or numpy.savez",
            file=path,
        ) from error


def write_arrays(arrays: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Write named arrays to an .npz file atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyrefly: ignore
    replace_file(path, buffer.getvalue())


def write_array(array: np.ndarray, path: pathlib.Path) -> None:
    """Write an array to an .npy file atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    replace_file(path, buffer.getvalue())
