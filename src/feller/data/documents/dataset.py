"""Document datasets from files and arrays."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from feller.core.errors import InputError, UsageError, error_context
from feller.data.documents.files import DOCUMENT, MAX_SIDE, NO_PICTURE, items_of
from feller.data.documents.modality import Documents
from feller.data.images.image_resizing import resize_arrays
from feller.data.loading.raw import ImageItem, Item, RawDocuments, TextItem, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import make_vocabulary

DOCUMENT_KEYS = frozenset({"samples", "pictures"})
"""Names of the arrays that hold documents in an .npz file."""


def arrays_hold_documents(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return True if the arrays hold documents: an array of JSON strings and an array of their images."""
    return arrays.keys() >= DOCUMENT_KEYS and arrays["samples"].dtype.kind == "U"


def documents_from_arrays(
    arrays: Mapping[str, np.ndarray], path: str, size: int | None, limit: int | None
) -> RawDocuments:
    """Read documents from the arrays of an .npz of samples; their images are named 0.png, 1.png, ...

    Tokens in the .npz are ignored, because they belong to another model.

    Args:
        arrays: `samples`, JSON strings [n], and `pictures`, uint8 [n, maximum number of images, h, w, c].
        path: Name of the file, for error messages.
        size: Longer side of the resized images, in pixels; None keeps the size of images up to `limit`.
        limit: Maximum of the longer image side, in pixels, but at most `MAX_SIDE`; None for no limit.
    """
    samples, images = arrays["samples"], arrays["pictures"]
    if samples.ndim != 1 or not len(samples):
        raise InputError("an array samples [n] with one document per entry", list(samples.shape), file=path)
    n, shape = len(samples), images.shape
    if images.dtype != np.uint8 or len(shape) != 5 or shape[0] != n or shape[4] not in (1, 3) or 0 in shape[2:]:
        raise InputError(
            f"an array pictures [{n}, maximum number of images per document, h, w, 1 or 3] of uint8",
            f"{list(shape)} of {images.dtype}",
            file=path,
        )
    documents: list[tuple[Item, ...]] = []
    used_images: list[np.ndarray] = []
    for i, line in enumerate(samples.tolist()):
        by_name = {f"{k}.png": image for k, image in enumerate(images[i])}

        def image_index(name: str, by_name: dict[str, np.ndarray] = by_name) -> int:
            if name not in by_name:
                raise InputError(f"an image name N.png with N below {len(by_name)}", f"{name!r}")
            used_images.append(by_name[name])
            return len(used_images) - 1

        with error_context(path, place=f"document {i + 1}"):
            documents.append(tuple(items_of({DOCUMENT: _parts(line)}, image_index)))
    if not used_images:
        raise InputError(NO_PICTURE, file=path)
    values, notes = resize_arrays(np.stack(used_images), size, limit and min(limit, MAX_SIDE))
    return RawDocuments(object_array(documents), notes=notes, images=values)


def _parts(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("a JSON list of texts and images", repr(line[:40])) from error


DEFAULT_VOCABULARY = "subwords:1024"


def document_dataset(raw: RawDocuments, vocabulary: str | None = None, like: Documents | None = None) -> Dataset:
    """Build a dataset of documents, with a vocabulary fitted to the texts unless `like` is given.

    Args:
        raw: Documents as read from a file.
        vocabulary: Text vocabulary: characters, bytes, subwords or subwords:N (default subwords:1024).
        like: Modality of an existing model, with its vocabulary, to use instead of a newly fitted modality.

    Raises:
        InputError: If there are fewer than two documents, no text, or characters outside the vocabulary of `like`.
        UsageError: If the vocabulary is unknown, or given together with `like`.
    """
    if like is not None:
        if vocabulary is not None:
            raise UsageError(
                "documents use the vocabulary of the base model", remedy="Leave it out", argument="vocabulary"
            )
        like = replace(like, tasks=tuple(dict.fromkeys((*like.tasks, *raw.tasks))))
        return Dataset(*like.values_from_raw(raw), like, raw.notes)
    if len(raw.values) < 2:
        raise InputError("at least two documents", "one", "Add more documents")
    texts = [item.text for items in raw.values for item in items if isinstance(item, TextItem)]
    if not any(text.strip() for text in texts):
        raise InputError("texts in the documents", "images only", "Train on the images alone, as an image folder")
    vocab = make_vocabulary(texts, vocabulary or DEFAULT_VOCABULARY)
    _, height, width, channels = raw.images.shape
    tasks = tuple(dict.fromkeys(raw.tasks))
    modality = Documents(vocab, height, width, channels, tasks=tasks)
    num_images = sum(isinstance(item, ImageItem) for items in raw.values for item in items)
    note = (
        f"{len(raw.values):,} documents with {num_images:,} pictures of {width}x{height} and {vocab.vocab_size:,}"
        f" {vocab.unit}"
    )
    return Dataset(*modality.values_from_raw(raw), modality, (*raw.notes, note))
