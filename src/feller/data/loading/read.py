"""From what a person names to a data set."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from feller.core.errors import UsageError, check_number
from feller.data.crystals.modality import crystals
from feller.data.documents.dataset import documents
from feller.data.documents.modality import Documents
from feller.data.examples.loaders import EXAMPLES, Example
from feller.data.examples.registry import EXAMPLE, part_of
from feller.data.fingerprints import print_of_values
from feller.data.images.modality import images
from feller.data.labels import LABEL_NAMES
from feller.data.loading.decimal_commas import rows_with_commas
from feller.data.loading.find import find, find_in_sheet, find_texts
from feller.data.loading.in_memory import (
    DataSource,
    check_frame,
    for_now,
    is_given,
    plain_arrays,
    rows_of,
    said_of,
    sheet_in,
    with_index,
)
from feller.data.loading.interpret import interpret
from feller.data.loading.raw import (
    Found,
    FoundArrays,
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
from feller.data.loading.read_options import Asked
from feller.data.loading.user_modality import check_class, new_modality, read_by
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import molecules
from feller.data.path_checks import check_data
from feller.data.points.arrays import arrays
from feller.data.points.columns import all_columns, places_among, torsions_among
from feller.data.points.earth import earth
from feller.data.points.manifold_points import geometric
from feller.data.points.named_spaces import ANGLES, FLAT, check_space, place_of
from feller.data.points.points import points
from feller.data.points.tables import Choose
from feller.data.points.torsions import torsions
from feller.data.proteins.backbones import backbones
from feller.data.proteins.modality import proteins
from feller.data.shards.dataset import sharded
from feller.data.shards.shard_names import is_sharded
from feller.data.speech.dataset import speech
from feller.data.speech.sounds import sounds
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table, tables
from feller.data.tables.schema import Schema, schema_of
from feller.data.text.dataset import texts
from feller.data.text.modality import Text


def read(
    source: DataSource,
    *,
    longest: int | None = None,
    like: Modality | None = None,
    kind: type[Found] | None = None,
    space: str | None = None,
    project: bool = False,
    vocabulary: str | None = None,
    schema: Schema | str | os.PathLike[str] | Mapping[str, object] | None = None,
    every_row: bool = False,
    modality: type[Modality] | None = None,
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
        schema: Description of a table's columns, as a dict or in a file, too; without it, tables with columns of words
            are described by their cells, and other tables are rows of numbers.
        every_row: Keep empty texts, which are otherwise left out, and raise an error if data in memory do not become
            one example for each row.
        modality: A modality of your own, whose `load` reads the data, and which learns its statistics of them.

    Raises:
        InputError: If the data are missing, damaged, unlike the modality, or beside the space.
        UsageError: If there is no such example or space, if an argument does not apply, or if rows are lost that were
            all asked for.
    """
    own = new_modality(check_class(modality)) if modality else like if like is not None and like.loads else None
    if own is not None:
        if any(one not in (None, False) for one in (longest, kind, space, project, vocabulary, schema)):
            raise UsageError(f"{own.called} are read by their own loader", remedy="Leave out how others are read")
        with for_now(source) if is_given(source) else contextlib.nullcontext(str(source)) as file:
            return read_by(own, file, fit=modality is not None)
    if isinstance(source, pd.DataFrame):
        source, _ = with_index(source, _columns(like))
        check_frame(source)
    if is_given(source):
        wanted = _Wanted(said_of(source), longest, like, kind, space, project, vocabulary, schema, every_row)
        sheet = None if vocabulary is not None or (like is not None and like.worded) else sheet_in(source)
        arrays = None if wanted.holds is FoundSounds else plain_arrays(source)
        if sheet is not None or arrays is not None:
            with about(wanted.source):
                wanted = wanted.settled()
                where, asked = wanted.source, wanted.asked
                found = find_in_sheet(sheet, where, asked) if arrays is None else interpret(arrays, where, asked)
                data = _made(found, wanted)
        else:
            with for_now(source) as file:
                data = _read(replace(wanted, source=str(file)))
        if every_row and len(data) != rows_of(source):
            raise UsageError(
                f"one example for each of {rows_of(source)} rows",
                f"{len(data)}{': ' if data.notes else ''}{'; '.join(data.notes)}. Pass `feller.read(data,"
                " like=model.description.modality)` to get results for the examples that are read",
            )
        return data
    if not isinstance(source, str | os.PathLike):
        raise UsageError("a file, a folder, example:NAME or data in memory", type(source).__name__, argument="data")
    return _read(_Wanted(str(source), longest, like, kind, space, project, vocabulary, schema, every_row))


def _columns(like: Modality | None) -> tuple[str, ...] | None:
    """Return the columns of a table to follow; None where there is none."""
    mixed, table = (None, None) if like is None else (like.view(Mixed), like.view(Table))
    table = table if mixed is None else mixed.table
    return None if table is None else table.schema.names


@dataclass(frozen=True)
class _Wanted:
    """What is read, and as what: the arguments of `read`."""

    source: str
    longest: int | None
    like: Modality | None
    kind: type[Found] | None
    space: str | None
    project: bool
    vocabulary: str | None
    schema: Schema | str | os.PathLike[str] | Mapping[str, object] | None
    every_row: bool

    def check(self) -> None:
        """Raise a UsageError on what does not go together, before a file is opened."""
        check_number("longest", self.longest, ge=1)
        if self.project and self.space is None:
            raise UsageError("the space onto which --project moves points", "none", argument="space")
        if self.space is not None:
            check_space(self.space)
        if self.schema is not None and any(
            asked is not None for asked in (self.longest, self.like, self.space, self.vocabulary)
        ):
            raise UsageError(
                "a schema describes all of a table", remedy="Leave out longest, space, vocabulary and a model to follow"
            )

    def settled(self) -> "_Wanted":
        """Return the same with the schema that its file holds, and the size of a model to follow; errors as `check`."""
        self.check()
        return replace(self, schema=self.described, longest=self.fits)

    @property
    def described(self) -> Schema | None:
        """The schema, read from its file."""
        return None if self.schema is None else schema_of(self.schema)

    @property
    def fits(self) -> int | None:
        """As asked, or that of the model to follow."""
        own = None if self.like is None else self.like.read_size
        return self.longest if own is None else own

    @property
    def holds(self) -> type[Found]:
        """What must be there."""
        if self.schema is not None:
            return FoundTable
        return self.kind or Found if self.like is None else self.like.holds

    @property
    def choose(self) -> Choose:
        """Which columns of a table may be the only ones that count."""
        if self.like is not None:
            return self.like.choose
        return torsions_among if self.space in (None, ANGLES) else all_columns

    @property
    def asked(self) -> Asked:
        """What finding must know of it."""
        return Asked(self.longest, choose=self.choose, kind=self.holds)


def _read(wanted: _Wanted) -> Dataset:
    wanted, source = wanted.settled(), wanted.source
    with about(source):
        if source.startswith(EXAMPLE):
            return _example(wanted)
        if is_sharded(source):
            return _in_shards(wanted)
        check_data(source)
        return _made(_found(wanted), wanted)


def _example(wanted: _Wanted) -> Dataset:
    """Read an example: as it is, or what a file with it would hold as something else."""
    about_it, part = part_of(wanted.source)
    example = EXAMPLES[about_it.name]
    data = _example_as(example, part, wanted)
    if not example.by_name or data.print:
        return data
    return replace(data, print=print_of_values(data.values, data.given))  # which tells it from fingerprints of before


def _example_as(example: Example, part: str, wanted: _Wanted) -> Dataset:
    """Read an example as it is asked for."""
    if all(asked is None for asked in (wanted.longest, wanted.like, wanted.space, wanted.vocabulary, wanted.schema)):
        return example.load(part)
    if example.found is not None:
        return _made(example.found(part), wanted)
    data = example.load(part)
    arrays = data.modality.arrays(data.values, data.given)
    return _made(interpret(arrays, wanted.source, Asked(wanted.longest, limit=None)), wanted)


def _in_shards(wanted: _Wanted) -> Dataset:
    """Read the index and a sample of shards."""
    if wanted.project:
        raise UsageError(
            "moves points of a file that is read as a whole",
            remedy="Project them before, or give one",
            argument="project",
        )
    asked = wanted.asked if wanted.vocabulary is None else replace(wanted.asked, kind=FoundTexts)
    return sharded(wanted.source, asked, lambda found: _made(found, wanted))


def _found(wanted: _Wanted) -> Found:
    """Find what a file or folder holds."""
    path = pathlib.Path(wanted.source)
    if wanted.like is not None and wanted.like.view(Text) is not None:
        return find_texts(path)
    return find(path, wanted.asked) if wanted.vocabulary is None else find_texts(path, Asked(wanted.longest))


def _made(found: Found, wanted: _Wanted) -> Dataset:
    """Give what was found a meaning: that of the model to follow, or its own."""
    source, like, make = wanted.source, wanted.like, _MAKERS[type(found)]
    if wanted.schema is not None and not isinstance(found, FoundTable):
        raise UsageError(
            f"a schema describes a table, and {source} holds {found.told}", remedy="Leave it out", argument="schema"
        )
    worded = _WORDED.get(type(found))
    if worded and wanted.space is None and (like is None or like.view(worded) is not None):
        return make(found, wanted)
    if wanted.vocabulary is not None:
        raise UsageError("holds no text, and only text has a vocabulary", remedy="Leave it out", file=source)
    if like is None:
        return make(found, wanted)
    rows = _with_commas(found, wanted) if isinstance(found, FoundTable) else None
    return like.read(rows or found)


def _texts(found: FoundTexts, wanted: _Wanted) -> Dataset:
    _refuse_space(wanted)
    like = None if wanted.like is None else wanted.like.view(Text)
    return texts(found, wanted.longest, wanted.vocabulary, like, keep_empty=wanted.every_row)


def _documents(found: FoundDocuments, wanted: _Wanted) -> Dataset:
    _refuse_space(wanted)
    like = None if wanted.like is None else wanted.like.view(Documents)
    return documents(found, wanted.vocabulary, like)


def _table(found: FoundTable, wanted: _Wanted) -> Dataset:
    """Make a data set of a table by the schema, or of rows of numbers where they are written with decimal commas."""
    rows = _with_commas(found, wanted)
    if rows is not None:
        return _rows(rows, wanted)
    places = places_among(found.columns)
    if wanted.longest is not None or wanted.space is not None:
        raise UsageError(
            f"{wanted.source} holds a table with words, which has neither size nor space",
            remedy=f"Leave them out{f', or keep {places[0]} and {places[1]} alone' if wanted.space and places else ''}",
        )
    data = tables(found, wanted.described)
    return replace(data, notes=(*data.notes, _beside(places))) if places else data


def _with_commas(found: FoundTable, wanted: _Wanted) -> FoundRows | None:
    """Return rows of numbers with decimal commas, where the names of their columns, or what is asked, want such."""
    columns = [name for name in found.columns if name.lower() not in LABEL_NAMES]
    places = len(columns) == 2 and places_among(columns)
    known = wanted.like.curved if wanted.like else wanted.space or places
    return rows_with_commas(found, wanted.source, wanted.choose) if known and wanted.schema is None else None


def _rows(found: FoundRows, wanted: _Wanted) -> Dataset:
    """Give rows of numbers the space that is asked for, or that of their names."""
    space = wanted.space
    if wanted.longest is not None:
        raise UsageError(f"{wanted.source} holds points, which have no size", remedy="Leave longest out")
    if space is None:
        return _by_names(found)
    if space == "sphere" and found.values.shape[1] == 2:
        return earth(found)
    if space in (FLAT, ANGLES):
        return {FLAT: points, ANGLES: torsions}[space](found)
    return geometric(found, place_of(space, found), project=wanted.project)


def _by_names(found: FoundRows) -> Dataset:
    places = places_among(found.columns)
    if places and len(found.columns) == 2:
        return earth(found)
    if torsions_among(found.columns):
        return torsions(found)
    if places:
        found = replace(found, notes=(*found.notes, _beside(places)))
    return points(found)


def _beside(places: tuple[str, ...]) -> str:
    """Say what becomes of a latitude and a longitude beside other columns."""
    return (
        f"{places[0]} and {places[1]} were taken as plain numbers; a table of these two columns alone makes a model of"
        " places on the sphere"
    )


def _chains(found: FoundChains) -> Dataset:
    """Make a data set of chains, with their sequences where any is known."""
    return backbones(found) if found.residues is None else proteins(found)


def _as_it_is(make: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Return what makes a data set of a kind that needs nothing to be said."""

    def made(found: Found, wanted: _Wanted) -> Dataset:
        _refuse_space(wanted)
        return make(found)

    return made


def _refuse_space(wanted: _Wanted) -> None:
    if wanted.space is not None:
        raise UsageError(
            f"{wanted.source} holds no rows of numbers, so it lies in no other space",
            remedy="Leave it out",
            argument="space",
        )


_MAKERS: dict[type[Found], Callable[..., Dataset]] = {
    FoundArrays: _as_it_is(arrays),
    FoundChains: _as_it_is(_chains),
    FoundCrystals: _as_it_is(crystals),
    FoundDocuments: _documents,
    FoundMolecules: _as_it_is(molecules),
    FoundPictures: _as_it_is(images),
    FoundRows: _rows,
    FoundSounds: lambda found, wanted: sounds(found, wanted.longest),
    FoundSpeech: _as_it_is(speech),
    FoundTable: _table,
    FoundTexts: _texts,
}
"""What makes a data set of each kind, from what was found and what is wanted."""
_WORDED: dict[type[Found], type[Modality]] = {FoundDocuments: Documents, FoundTexts: Text}
"""Kinds with a vocabulary, which is asked for or that of a model to follow."""
