"""From documents of a file to examples."""

from dataclasses import replace

from feller.core.errors import InputError, UsageError
from feller.data.documents.documents_modality import Documents
from feller.data.loading.raw import FoundDocuments, Said, Shown
from feller.data.modality import Dataset
from feller.data.text.dataset import make_vocabulary

USUAL = "subwords:1024"
"""The vocabulary, where none is asked for."""


def documents(found: FoundDocuments, vocabulary: str | None = None, like: Documents | None = None) -> Dataset:
    """Make a data set of documents.

    Args:
        found: The documents of a file.
        vocabulary: Symbols of text: characters, bytes, subwords or subwords:N; by default pieces of words.
        like: Modality to follow instead.

    Raises:
        InputError: If there is nothing to learn from, or a character that the modality does not know.
        UsageError: If there is no such vocabulary.
    """
    if like is not None:
        if vocabulary is not None:
            raise UsageError("documents keep the vocabulary of the model that is trained on; leave --vocabulary out")
        like = replace(like, tasks=tuple(dict.fromkeys((*like.tasks, *found.tasks))))
        return Dataset(*like.accept(found), like, found.notes)
    if len(found.values) < 2:
        raise InputError("expected two documents or more to learn from, got one; add others")
    texts = [item.text for items in found.values for item in items if isinstance(item, Said)]
    if not any(text.strip() for text in texts):
        raise InputError("no document has words, so there is nothing to ask for; as pictures alone they can be learned")
    symbols = make_vocabulary(texts, vocabulary or USUAL)
    _, height, width, channels = found.pictures.shape
    names = tuple(dict.fromkeys(found.tasks))
    modality = Documents(symbols, height, width, channels, tasks=names)
    pictures = sum(isinstance(item, Shown) for items in found.values for item in items)
    told = (
        f"{len(found.values):,} documents with {pictures:,} pictures of {width}x{height} and {symbols.count:,}"
        f" {symbols.unit}"
    )
    return Dataset(*modality.accept(found), modality, (*found.notes, told))
