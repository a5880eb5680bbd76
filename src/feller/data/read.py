"""From what a person names to a data set."""

import os
import pathlib
import warnings
from collections.abc import Callable
from dataclasses import replace

from feller.data.asked import Asked
from feller.data.crystals.modality import Crystals, crystals
from feller.data.documents.dataset import documents
from feller.data.documents.modality import Documents
from feller.data.examples import EXAMPLES, Example
from feller.data.find import find, find_texts
from feller.data.found import (
    Found,
    FoundChains,
    FoundCrystals,
    FoundDocuments,
    FoundMolecules,
    FoundPictures,
    FoundRows,
    FoundSounds,
    FoundSpeech,
    FoundTable,
    FoundTexts,
    about,
)
from feller.data.given import Given, for_now, is_given
from feller.data.images.modality import Images, images
from feller.data.interpret import interpret
from feller.data.modality import Dataset, Modality, told
from feller.data.molecules.modality import Molecules, molecules
from feller.data.proteins.backbones import backbones
from feller.data.proteins.modality import proteins
from feller.data.rows.earth import earth
from feller.data.rows.geometric import geometric
from feller.data.rows.names import all_columns, places_among, torsions_among
from feller.data.rows.places import ANGLES, FLAT, check_space, place_of
from feller.data.rows.points import points
from feller.data.rows.tables import Choose
from feller.data.rows.torsions import torsions
from feller.data.shards.dataset import sharded
from feller.data.shards.names import is_sharded
from feller.data.speech.dataset import speech
from feller.data.speech.mel import FRAMES
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Sounds, sounds
from feller.data.table.modality import tables
from feller.data.table.schema import Schema
from feller.data.table.written import read_schema
from feller.data.text.dataset import texts
from feller.data.text.modality import Text
from feller.errors import UsageError
from feller.places import check_data
from feller.shipped import EXAMPLE, part_of


def read(
    source: str | pathlib.Path | Given,
    *,
    longest: int | None = None,
    like: Modality | None = None,
    kind: type[Found] | None = None,
    space: str | None = None,
    project: bool = False,
    vocabulary: str | None = None,
    schema: Schema | str | None = None,
    size: int | None = None,
) -> Dataset:
    """Read a file, a folder, or `example:NAME`, whose held-out part is `example:NAME/test`; some have other parts, too.

    Args:
        source: What to read; also a DataFrame, an array or tensor, a list of texts, or a dict of them, as `feller.fit`
            takes them.
        longest: As `feller.fit` takes it: the longer side of pictures, in pixels; without it they keep theirs up to 64.
            Of backbones, the residues beyond which one is left out; without it 128. Of molecules and crystals, the
            atoms; without it 64. Of texts, the symbols of an example. Of speech, the seconds beyond which a sound is
            left out; without it 30. Of sounds alone, the seconds of the pieces that they are cut into; without it 4.
        like: Modality of a model to test on the data, which then take its columns, classes, levels, size and space
            instead of their own.
        kind: What files are to be taken for that may be several things, such as sounds whose texts are of no use.
        space: Where rows of numbers lie: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a file with a
            mesh. Without it, latitude and longitude, and torsion angles, are known by their names.
        project: Move points beside the space to the nearest on it.
        vocabulary: Symbols of texts: characters, bytes, subwords or subwords:N; without it characters, or bytes if
            there are more than 256 different ones.
        schema: Description of a table's columns, or the file that holds it; without it, tables with columns of words
            are described by their cells, and other tables are rows of numbers.
        size: What `longest` was called; it will go.

    Raises:
        InputError: If the data are missing, damaged, unlike the modality, or beside the space.
        UsageError: If there is no such example or space, or if an argument does not apply.
    """
    if size is not None:
        if longest is not None:
            raise UsageError("longest and size are the same; leave size out")
        warnings.warn("size is now called longest, as in feller.fit; say longest", DeprecationWarning, stacklevel=2)
        longest = size
    if is_given(source):
        with for_now(source) as file:
            return read(
                file,
                longest=longest,
                like=like,
                kind=kind,
                space=space,
                project=project,
                vocabulary=vocabulary,
                schema=schema,
            )
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"expected a file, a folder, example:NAME or data in memory, got {type(source).__name__}")
    source = str(source)
    if longest is not None and longest < 1:
        raise UsageError(f"longest must be 1 or more, got {longest}")
    if project and space is None:
        raise UsageError("moving points onto a space needs its name; give --space with --project")
    if space is not None:
        check_space(space)
    if schema is not None and any(asked is not None for asked in (longest, like, space, vocabulary)):
        raise UsageError(
            "a schema describes all of a table; leave out longest, space, vocabulary and a model to follow"
        )
    described = read_schema(pathlib.Path(schema)) if isinstance(schema, str) else schema
    if isinstance(like, Images | Documents):
        longest = max(like.height, like.width)
    if isinstance(like, Crystals | Molecules):
        longest = like.longest
    if isinstance(like, Speech | Sounds):
        longest = -(-like.longest // FRAMES)

    def made(found: Found) -> Dataset:
        """Give what was found a meaning."""
        if described is not None and not isinstance(found, FoundTable):
            raise UsageError(f"a schema describes a table, and {source} holds {found.told}; leave --schema out")
        if isinstance(found, FoundTexts) and space is None and (like is None or isinstance(like, Text)):
            return texts(found, longest, vocabulary, like)
        if isinstance(found, FoundDocuments) and space is None and (like is None or isinstance(like, Documents)):
            return documents(found, vocabulary, like)
        if vocabulary is not None:
            raise UsageError(f"{source} holds no text, and only text has a vocabulary; leave it out")
        if isinstance(found, FoundSounds):
            return like.pieces(found) if isinstance(like, Sounds) else sounds(found, longest)
        if like is not None:
            return Dataset(*like.accept(found), like, found.notes, properties=told(found))
        if isinstance(found, FoundTable):
            if longest is not None or space is not None:
                raise UsageError(f"{source} holds a table with words, which has neither size nor space; leave them out")
            return tables(found, described)
        if isinstance(found, FoundRows):
            if longest is not None:
                raise UsageError(f"{source} holds points, which have no size; leave longest out")
            return _rows(found, space, project=project)
        if space is not None:
            raise UsageError(f"{source} holds no rows of numbers, so it lies in no other space; leave --space out")
        return _MAKERS[type(found)](found)

    with about(source):
        if source.startswith(EXAMPLE):
            about_it, part = part_of(source)
            example = EXAMPLES[about_it.name]
            if all(asked is None for asked in (longest, like, space, vocabulary, schema)):
                return example.load(part)
            found = _found(example, part, source, longest)
        else:
            path = pathlib.Path(source)
            kind = FoundTable if described else kind or Found if like is None else like.holds
            if is_sharded(source):
                return _in_shards(
                    source, Asked(longest, choose=_choose(like, space), kind=kind), made, vocabulary, project
                )
            check_data(source)
            if isinstance(like, Text):
                found = find_texts(path)
            elif vocabulary is not None:
                found = find_texts(path, Asked(longest))
            else:
                found = find(path, Asked(longest, choose=_choose(like, space), kind=kind))
        return made(found)


def _in_shards(
    source: str, asked: Asked, made: Callable[[Found], Dataset], vocabulary: str | None, project: bool
) -> Dataset:
    """Read the index and a sample of shards."""
    if project:
        raise UsageError("--project moves points of a file that is read as a whole; project them before, or give one")
    return sharded(source, replace(asked, kind=FoundTexts) if vocabulary is not None else asked, made)


def _chains(found: FoundChains) -> Dataset:
    """Make a data set of chains, with their sequences where any is known."""
    return backbones(found) if found.residues is None else proteins(found)


_MAKERS: dict[type[Found], Callable[..., Dataset]] = {
    FoundChains: _chains,
    FoundCrystals: crystals,
    FoundMolecules: molecules,
    FoundPictures: images,
    FoundSpeech: speech,
}
"""What makes a data set of each kind that needs nothing to be said; texts and rows have choices."""


def _choose(like: Modality | None, space: str | None) -> Choose:
    """Say which columns of a table may be the only ones that count."""
    if like is not None:
        return like.choose
    return torsions_among if space in (None, ANGLES) else all_columns


def _rows(found: FoundRows, space: str | None, *, project: bool) -> Dataset:
    """Give rows of numbers the space that is asked for, or that of their names."""
    if space is None:
        return _by_names(found)
    if space == "sphere" and found.values.shape[1] == 2:
        return earth(found)
    if space in (FLAT, ANGLES):
        return {FLAT: points, ANGLES: torsions}[space](found)
    return geometric(found, place_of(space, found), project=project)


def _by_names(found: FoundRows) -> Dataset:
    places = places_among(found.columns)
    if places and len(found.columns) == 2:
        return earth(found)
    if torsions_among(found.columns):
        return torsions(found)
    if places:
        told = (
            f"{places[0]} and {places[1]} were taken as plain numbers; a table of these two alone is one of the earth"
        )
        found = replace(found, notes=(*found.notes, told))
    return points(found)


def _found(example: Example, part: str, source: str, longest: int | None) -> Found:
    """Return what a file with an example would hold."""
    if example.found is not None:
        return example.found(part)
    data = example.load(part)
    return interpret(data.modality.arrays(data.values, data.given), source, Asked(longest, limit=None))
