"""Arrays in Zarr stores: folders with metadata in zarr.json, .zarray or .zgroup."""

import json
import math
import pathlib
from typing import Any

import numpy as np

from feller.core.errors import InputError, message_of
from feller.core.optional_dependency import require_package
from feller.data.files.decompression import MAX_RATIO, MIN_EXPANDED_BYTES
from feller.data.path_checks import is_outside

METADATA = ("zarr.json", ".zarray", ".zgroup")
CODECS = {
    *("bytes", "endian", "transpose", "crc32c", "crc32", "sharding_indexed"),
    *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma", "delta", "shuffle", "fixedscaleoffset", "quantize"),
}
"""Names of the codecs that are read; all others are refused, such as pickle, which executes code."""
REMEDY = "Write the array again, with config={'write_empty_chunks': True} or the fill value NaN"


def is_zarr(folder: pathlib.Path) -> bool:
    """Return True if a folder is a Zarr store."""
    return any((folder / name).is_file() for name in METADATA)


def load_zarr(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Read all arrays at the top of a store, by name; the array of a store with a single array is named `samples`.

    A chunk without a file holds the fill value: NaN marks missing entries, and any other fill value is refused, since
    lost files look the same.

    InputError if the store is damaged, lacks chunks, uses another codec, or would expand beyond the limit.
    """
    zarr = require_package("zarr", "reading Zarr stores", extra="arrays")
    _check_store(folder)
    try:
        node = zarr.open(store=str(folder), mode="r", use_consolidated=False)
        found = (
            {"samples": node}
            if isinstance(node, zarr.Array)
            else {name.lower(): array for name, array in node.arrays()}
        )
        return {name: _read(array, name, folder) for name, array in found.items()}
    except InputError:
        raise
    except Exception as error:  # zarr and its codecs raise many types on damaged stores
        message = message_of(error)
        raise InputError(
            f"cannot be read as Zarr ({message[:200]})", remedy="Write the store again", file=folder
        ) from error


def _read(array: Any, name: str, folder: pathlib.Path) -> np.ndarray:
    """Read one array; InputError if chunks are missing and the fill value is a number."""
    size = math.prod(array.shape) * array.dtype.itemsize
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > max(MIN_EXPANDED_BYTES, MAX_RATIO * stored):
        raise InputError("an array within the limit on the compression ratio", f"{size:,} bytes", file=folder)
    missing = array.nchunks - array.nchunks_initialized
    fill = array.fill_value
    if missing and not (array.dtype.kind == "f" and fill is not None and np.isnan(fill)):
        raise InputError(
            f"all {array.nchunks:,} chunks of the array {name}",
            f"{missing:,} without a file, which Zarr reads as {fill}",
            REMEDY,
            file=folder,
        )
    return np.asarray(array[...])


def _check_store(folder: pathlib.Path) -> None:
    """Raise an InputError if a file of a store is a link that leads outside, or the metadata name another codec."""
    for path in folder.rglob("*"):
        if path.is_symlink() and is_outside(path, folder):
            raise InputError("files inside the store", f"the link {path.name}", "Copy the files", file=folder)
        if path.name not in ("zarr.json", ".zarray"):
            continue
        try:
            metadata = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise InputError("Zarr metadata in JSON", f"damaged {path.name}", file=folder) from error
        unknown = sorted(_codecs(metadata if isinstance(metadata, dict) else {}) - CODECS)
        if unknown:
            raise InputError(f"codecs among {', '.join(sorted(CODECS))}", ", ".join(unknown), REMEDY, file=folder)


def _codecs(metadata: dict[str, Any]) -> set[str]:
    """Return the names of all codecs, filters and compressors in the metadata of an array."""
    entries = [metadata.get("compressor"), *(metadata.get("filters") or []), *(metadata.get("codecs") or [])]
    names: set[str] = set()
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        names.add(str(entry.get("id", entry.get("name"))).lower())
        inner = entry.get("configuration")
        if isinstance(inner, dict):
            names |= _codecs(inner) | _codecs({"codecs": inner.get("index_codecs")})
    return names
