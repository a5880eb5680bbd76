"""NumPy's files, .npy and .npz, without their pickles."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Generator

import numpy as np

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.decompression import check_expanded_size


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file; the one of an .npy is called `samples`.

    InputError if the file is damaged, or holds Python objects, which would be code of its writer.
    """
    with _one_line_errors(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:  # which gives out no more of an array than it says here
                check_expanded_size(path, sum(member.file_size for member in packed.infolist()))
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"samples": loaded}
        with loaded:
            members = {name.lower(): loaded[name] for name in loaded.files}
    return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}


def array_names(path: pathlib.Path) -> frozenset[str]:
    """Return the names of the arrays of a file, which are not read; as `load_arrays`; InputError if it is damaged."""
    with _one_line_errors(path):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return frozenset({"samples"})
        with loaded:
            return frozenset(name.lower() for name in loaded.files)


@contextlib.contextmanager
def _one_line_errors(path: pathlib.Path) -> Generator[None]:
    """Say in one line why a file cannot be read."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds on damaged files
        message = " ".join(str(error).split()) or type(error).__name__
        reason = "it is damaged, or holds Python objects" if "pickle" in message else message  # no advice to open those
        raise InputError(
            f"cannot be read as plain arrays ({reason})", remedy="Write numbers with numpy.save or savez", file=path
        ) from error


def write_arrays(arrays: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Write an .npz, whole or not at all."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyrefly: ignore
    replace_file(path, file.getvalue())


def write_array(array: np.ndarray, path: pathlib.Path) -> None:
    """Write an .npy, whole or not at all."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    replace_file(path, file.getvalue())
