"""Reading of any data source into a `Dataset`."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from feller.core.errors import UsageError, check_number, error_context
from feller.data.arrays.modality import array_dataset
from feller.data.crystals.modality import crystal_dataset
from feller.data.database_urls import hide_password, is_database
from feller.data.documents.dataset import document_dataset
from feller.data.documents.modality import Documents
from feller.data.examples.loaders import EXAMPLES, Example
from feller.data.examples.registry import EXAMPLE_PREFIX, parse_example
from feller.data.fingerprints import fingerprint_of_values
from feller.data.images.image_resizing import MAX_SIDE
from feller.data.images.modality import Images, image_dataset
from feller.data.labels import LABEL_NAMES
from feller.data.loading.array_formats import raw_from_arrays
from feller.data.loading.class_folders import DEFAULT_FOLDERS, FolderOptions
from feller.data.loading.condition_sources import columns_of, names_of, parse_conditions, shrunk_again, with_sources
from feller.data.loading.decimal_commas import parse_decimal_commas
from feller.data.loading.file_formats import holds_cells, load_database, load_raw, load_texts, raw_from_sheet
from feller.data.loading.in_memory import (
    DataSource,
    as_temporary_file,
    check_frame,
    is_frames,
    is_in_memory,
    num_rows,
    plain_arrays,
    said_of,
    sheet_in,
    with_index,
)
from feller.data.loading.linked_files import holds_linked_tables, load_tables
from feller.data.loading.raw import (
    RawArrays,
    RawChains,
    RawCrystals,
    RawDocuments,
    RawExamples,
    RawImages,
    RawMolecules,
    RawPoints,
    RawSpeech,
    RawTable,
    RawTables,
    RawTexts,
    RawWaveforms,
)
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.user_modality import check_class, new_modality, read_with
from feller.data.modality import Dataset, Modality, notes_without_used
from feller.data.molecules.modality import molecule_dataset
from feller.data.path_checks import require_data
from feller.data.points.columns import all_columns, coordinate_columns, torsions_among
from feller.data.points.earth import earth_dataset
from feller.data.points.euclidean_points import points_dataset
from feller.data.points.manifold_points import manifold_dataset
from feller.data.points.named_spaces import ANGLES, FLAT, check_space, place_of
from feller.data.points.number_tables import ColumnSelector
from feller.data.points.torsions import torsion_dataset
from feller.data.proteins.backbones import backbone_dataset
from feller.data.proteins.modality import protein_dataset
from feller.data.shards.dataset import shard_dataset
from feller.data.shards.shard_names import is_sharded
from feller.data.speech.dataset import speech_dataset
from feller.data.speech.sounds import waveform_dataset
from feller.data.tables.histories import history_dataset
from feller.data.tables.history_rows import HistoryColumns
from feller.data.tables.key_detection import detect_linked_schema
from feller.data.tables.linked_schema import LinkedSchema
from feller.data.tables.linked_schema_files import holds_linked_schema, linked_schema_of
from feller.data.tables.linked_tables import linked_dataset
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table, table_dataset
from feller.data.tables.schema import Schema, schema_of
from feller.data.text.dataset import text_dataset
from feller.data.text.modality import Text


def read(
    source: DataSource,
    *,
    longest: int | None = None,
    like: Modality | None = None,
    kind: type[RawExamples] | None = None,
    space: str | None = None,
    project: bool = False,
    vocabulary: str | None = None,
    schema: Schema | LinkedSchema | str | os.PathLike[str] | Mapping[str, object] | None = None,
    condition: Sequence[str] = (),
    every_row: bool = False,
    modality: type[Modality] | None = None,
    nested: bool = False,
    links: bool = False,
    max_side: int = MAX_SIDE,
    person: str | None = None,
    order: str | None = None,
    max_rows: int | None = None,
) -> Dataset:
    """Read a file, a folder, `example:NAME` or `example:NAME/PART` into a data set; the default part is `train`.

    Args:
        source: A path, an example, or a table of a database (`sqlite:///shop.db#orders`); or a DataFrame, array,
            tensor, list of texts, or dict of these, as for `feller.fit`.
        longest: Size limit, as for `feller.fit`. Images: longer side in pixels (default: unchanged up to `max_side`).
            Texts: tokens per example. Backbones: residues (default 128); molecules and crystals: atoms (default 64);
            speech: seconds (default 30); larger examples are dropped. Sounds without texts: seconds per segment
            (default 4).
        like: Modality of an existing model; the data are converted to its columns, classes, levels, size and space.
        kind: Type of raw examples as which an ambiguous file is read, such as `RawWaveforms` for recordings with
            transcripts.
        space: Space of numeric rows: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a mesh file. By
            default, latitude and longitude, and torsion angles, are recognised by column names.
        project: Move points that are off the space to the nearest point of the space.
        vocabulary: Vocabulary of texts: characters, bytes, subwords or subwords:N (default: characters, or bytes if
            there are more than 256 distinct characters).
        schema: Column types of a table, as a `Schema`, dict or JSON file. By default, the schema of a table with text
            columns is detected from its cells, and a table without text columns is read as numeric rows.
        condition: Names of columns, properties or arrays that become conditions instead of values; with `like`, those
            of that modality. NAME=PIXELS are the images themselves, shrunk; NAME=FILE.npy are the rows of an array; and
            NAME=FOLDER are the texts of the column NAME, encoded by the transformers model in the folder.
        every_row: Keep empty texts, which are otherwise dropped, and raise an error if rows of in-memory data are lost.
        modality: User-defined modality class, whose `load` reads the data, and whose `fit` computes its statistics.
        nested: In a folder of images or texts, read all folders inside a class folder too.
        links: In a folder of images or texts, follow links that point outside the folder.
        max_side: Longer side in pixels to which larger images are reduced, if `longest` is None.
        person: Column that identifies the person of each row of a table with several rows per person.
        order: Column by which the rows of a person are sorted (default: the order of the file).
        max_rows: Maximum number of rows per person, as for `feller.fit`.

    Raises:
        InputError: If the data are missing, damaged, incompatible with the modality, or off the space.
        UsageError: If the example or space is unknown, an argument does not apply, or rows are lost with `every_row`.
    """
    user_modality = (
        new_modality(check_class(modality)) if modality else like if like is not None and like.has_own_loader else None
    )
    if user_modality is not None:
        options = (longest, kind, space, project, vocabulary, schema, condition or None)
        if any(option not in (None, False) for option in options):
            raise UsageError(
                f"{user_modality.display_name} have their own loader",
                remedy="Leave out longest, kind, space, project, vocabulary and schema",
            )
        with as_temporary_file(source) if is_in_memory(source) else contextlib.nullcontext(str(source)) as file:
            return read_with(user_modality, file, fit=modality is not None)
    if isinstance(source, pd.DataFrame):
        source, _ = with_index(source, _columns(like))
        check_frame(source)
    frames = source if is_frames(source) else None
    in_memory = is_in_memory(source)
    request = _ReadRequest(
        said_of(source) if in_memory else hide_password(str(source)),
        longest,
        like,
        kind,
        space,
        project,
        vocabulary,
        schema,
        condition,
        every_row,
        DEFAULT_FOLDERS if in_memory else FolderOptions(nested, links),
        max_side,
        HistoryColumns(person, order, max_rows),
        is_linked=like is None and holds_linked_tables(source),
    )
    if frames is not None:
        with error_context(request.source):
            return _to_dataset(load_tables(frames), request.resolved())
    if in_memory:
        sheet = None if vocabulary is not None or (like is not None and like.has_vocabulary) else sheet_in(source)
        arrays = None if request.raw_type is RawWaveforms else plain_arrays(source, request.options.condition)
        if sheet is not None or arrays is not None:
            with error_context(request.source):
                request = request.resolved()
                where, options = request.source, request.options
                raw = (
                    raw_from_sheet(sheet, where, options) if arrays is None else raw_from_arrays(arrays, where, options)
                )
                data = _to_dataset(raw, request)
        else:
            with as_temporary_file(source) as file:
                data = _read(replace(request, source=str(file)))
        if every_row and not data.modality.groups_rows and len(data) != num_rows(source):
            raise UsageError(
                f"one example for each of {num_rows(source)} rows",
                f"{len(data)}{': ' if data.notes else ''}{'; '.join(data.notes)}. Pass `feller.read(data,"
                " like=model.description.modality)` to get results for the examples that are read",
            )
        return data
    if not isinstance(source, str | os.PathLike):
        raise UsageError("a file, a folder, example:NAME or in-memory data", type(source).__name__, argument="data")
    return _read(request)


def holds_table(source: DataSource) -> bool:
    """Return True if a data source holds the rows of a table rather than texts, images or other examples."""
    if is_in_memory(source):
        return sheet_in(source) is not None
    if is_database(source):
        return True
    path = pathlib.Path(str(source))
    if str(source).startswith(EXAMPLE_PREFIX):
        return read(source).modality.view(Table) is not None
    return path.is_file() and holds_cells(path)


def _columns(like: Modality | None) -> tuple[str, ...] | None:
    """Return the column names of the modality `like` if it is a table, else None."""
    mixed, table = (None, None) if like is None else (like.view(MixedTable), like.view(Table))
    table = table if mixed is None else mixed.table
    return None if table is None else table.schema.names


@dataclass(frozen=True)
class _ReadRequest:
    """The arguments of a call of `read`."""

    source: str
    longest: int | None
    like: Modality | None
    kind: type[RawExamples] | None
    space: str | None
    project: bool
    vocabulary: str | None
    schema: Schema | LinkedSchema | str | os.PathLike[str] | Mapping[str, object] | None
    condition: Sequence[str]
    every_row: bool
    folders: FolderOptions = DEFAULT_FOLDERS
    max_side: int = MAX_SIDE
    histories: HistoryColumns = HistoryColumns()  # noqa: RUF009 - frozen
    is_linked: bool = False
    """True for several tables that are linked by keys, in memory or in a folder."""

    def check(self) -> None:
        """Validate combinations of arguments, before a file is opened; UsageError if they conflict."""
        check_number("longest", self.longest, ge=1)
        if self.project and self.space is None:
            raise UsageError("a space to project onto with --project", "none", argument="space")
        if self.space is not None:
            check_space(self.space)
        if self.schema is not None and any(
            option is not None for option in (self.longest, self.like, self.space, self.vocabulary)
        ):
            raise UsageError(
                "a schema cannot be combined with longest, space, vocabulary or like", remedy="Remove these arguments"
            )
        if self.raw_type is not RawTables:
            self.histories.check()

    def resolved(self) -> "_ReadRequest":
        """Return the request with the schema loaded and the size of `like`; errors as `check`."""
        self.check()
        schema = self.linked_schema or self.parsed_schema
        return replace(self, schema=schema, longest=self.size)

    @property
    def linked_schema(self) -> LinkedSchema | None:
        """Schema of several tables, loaded from its file if needed; None if there is none."""
        return linked_schema_of(self.schema) if holds_linked_schema(self.schema) else None

    @property
    def parsed_schema(self) -> Schema | None:
        """Schema of a table, loaded from its file if needed."""
        return None if self.schema is None else schema_of(self.schema)

    @property
    def size(self) -> int | None:
        """Size limit: that of `like` if it has one, else `longest`."""
        like_size = None if self.like is None else self.like.read_size
        return self.longest if like_size is None else like_size

    @property
    def raw_type(self) -> type[RawExamples]:
        """Raw type that the source must contain."""
        if self.like is None and (self.is_linked or isinstance(self.schema, LinkedSchema)):
            return RawTables
        if self.schema is not None or (self.like is None and self.histories.person is not None):
            return RawTable
        return self.kind or RawExamples if self.like is None else self.like.raw_type

    @property
    def choose(self) -> ColumnSelector:
        """Selector of table columns; if it selects any, only these are read."""
        if self.like is not None:
            return self.like.select_columns
        return torsions_among if self.space in (None, ANGLES) else all_columns

    @property
    def options(self) -> ReadOptions:
        """Options that are passed to the file readers."""
        requests = parse_conditions(self.condition)
        condition = tuple(asked.name for asked in requests if not asked.is_array and not asked.is_shrunk)
        condition = condition if self.like is None else columns_of(self.like)
        images = None if self.like is None else self.like.view(Images)
        return ReadOptions(
            self.longest,
            self.max_side,
            select_columns=self.choose,
            condition=condition,
            folders=self.folders,
            image_size=None if images is None else (images.width, images.height),
            raw_type=self.raw_type,
        )


def _read(request: _ReadRequest) -> Dataset:
    request, source = request.resolved(), request.source
    with error_context(source):
        if source.startswith(EXAMPLE_PREFIX):
            return _example(request)
        if request.raw_type is RawTables:
            require_data(source)
            return _to_dataset(load_tables(source), request)
        if is_database(source):
            raw = load_database(source, request.options)
            return _to_dataset(raw, request)
        if is_sharded(source):
            return _in_shards(request)
        require_data(source)
        return _to_dataset(_load(request), request)


def _example(request: _ReadRequest) -> Dataset:
    """Read an example data set; if loading options are given, its contents are read again with them."""
    entry, part = parse_example(request.source)
    example = EXAMPLES[entry.name]
    data = _example_as(example, part, request)
    if not example.by_name or data.fingerprint:
        return data
    # This differs from the fingerprints of earlier versions.
    return replace(data, fingerprint=fingerprint_of_values(data.values, data.given))


def _example_as(example: Example, part: str, request: _ReadRequest) -> Dataset:
    options = (request.longest, request.like, request.space, request.vocabulary, request.schema)
    if not request.condition and all(option is None for option in options):
        return example.load(part)
    if example.raw is not None:
        return _to_dataset(example.raw(part), request)
    data = example.load(part)
    arrays = data.modality.arrays(data.values, data.given)
    return _to_dataset(raw_from_arrays(arrays, request.source, ReadOptions(request.longest, limit=None)), request)


def _in_shards(request: _ReadRequest) -> Dataset:
    if request.project:
        raise UsageError(
            "needs a file that is read as a whole, not shards",
            remedy="Project the points beforehand, or use a single file",
            argument="project",
        )
    if request.condition:
        raise UsageError(
            "needs a file that is read as a whole, not shards", remedy="Use a single file", argument="condition"
        )
    options = request.options if request.vocabulary is None else replace(request.options, raw_type=RawTexts)
    return shard_dataset(request.source, options, lambda raw: _to_dataset(raw, request))


def _load(request: _ReadRequest) -> RawExamples:
    path = pathlib.Path(request.source)
    if request.like is not None and request.like.view(Text) is not None:
        return load_texts(path, ReadOptions(limit=None, folders=request.folders))
    raw = (
        load_raw(path, request.options)
        if request.vocabulary is None
        else load_texts(path, ReadOptions(request.longest, folders=request.folders))
    )
    if request.folders.used and not (path.is_dir() and isinstance(raw, RawImages | RawTexts)):
        raise UsageError(
            "a folder of images or of texts", raw.name, "Leave out nested and links", argument=request.folders.used
        )
    return raw


def _to_dataset(raw: RawExamples, request: _ReadRequest) -> Dataset:
    """Convert raw examples into a data set, of the modality `like` if given, with the selected conditions."""
    data = _without_conditions(raw, request)
    modality = data.modality
    if request.like is None and request.condition:
        if modality.view(Table) is not None or modality.view(MixedTable) is not None:
            for name in {*names_of(request.condition)} - {*getattr(raw, "columns", ())}:
                raw.condition_column(name)  # fails for an unknown name
            raise UsageError(
                argument="condition",
                expected="remaining columns of numbers",
                found="columns of texts",
                remedy="Leave it out: after a fit of the whole table, --given sets any of its columns",
            )
        requests = parse_conditions(request.condition)
        raw, kinds = with_sources(raw, modality, requests)
        modality = modality.with_conditions(raw, [asked.name for asked in requests], kinds)
    else:
        raw = shrunk_again(raw, modality)
    given = modality.conditions_from_raw(raw)
    return replace(data, modality=modality, given={**data.given, **given}, notes=notes_without_used(data, [*given]))


def _without_conditions(raw: RawExamples, request: _ReadRequest) -> Dataset:
    """Convert raw examples into a data set without the selected conditions."""
    source, like, factory = request.source, request.like, _DATASETS[type(raw)]
    if request.schema is not None and not isinstance(raw, RawTable | RawTables):
        raise UsageError(
            f"a schema describes a table, but {source} contains {raw.description}",
            remedy="Remove the schema",
            argument="schema",
        )
    text_modality = _WITH_VOCABULARY.get(type(raw))
    if text_modality and request.space is None and (like is None or like.view(text_modality) is not None):
        return factory(raw, request)
    if request.vocabulary is not None:
        raise UsageError(
            "contains no text; a vocabulary applies to text only", remedy="Remove the vocabulary", file=source
        )
    if like is None:
        return factory(raw, request)
    rows = _with_commas(raw, request) if isinstance(raw, RawTable) else None
    return like.dataset_from_raw(rows or raw)


def _texts(raw: RawTexts, request: _ReadRequest) -> Dataset:
    _refuse_space(request)
    like = None if request.like is None else request.like.view(Text)
    return text_dataset(raw, request.longest, request.vocabulary, like, keep_empty=request.every_row)


def _documents(raw: RawDocuments, request: _ReadRequest) -> Dataset:
    _refuse_space(request)
    like = None if request.like is None else request.like.view(Documents)
    return document_dataset(raw, request.vocabulary, like)


def _table(raw: RawTable, request: _ReadRequest) -> Dataset:
    """Convert a table into a data set with a schema, or into numeric rows if its numbers have decimal commas."""
    schema = request.histories.schema_of(raw, request.parsed_schema)
    if schema is not None and schema.history is not None:
        return history_dataset(raw, schema)
    rows = _with_commas(raw, request)
    if rows is not None:
        return _rows(rows, request)
    coordinates = coordinate_columns(raw.columns)
    if request.longest is not None or request.space is not None:
        raise UsageError(
            f"{request.source} is a table with text columns, to which neither longest nor space applies",
            remedy="Remove these options"
            + (
                f", or keep only the columns {coordinates[0]} and {coordinates[1]}"
                if request.space and coordinates
                else ""
            ),
        )
    data = table_dataset(raw, schema)
    return replace(data, notes=(*data.notes, _coordinates_note(coordinates))) if coordinates else data


def _linked(raw: RawTables, request: _ReadRequest) -> Dataset:
    """Convert linked tables into a data set, with the given or the detected keys."""
    _refuse_space(request)
    schema, columns = request.schema, request.histories
    if isinstance(schema, LinkedSchema):
        if columns.person is not None:
            raise UsageError("the schema names the table of persons", remedy="Leave out --person", argument="person")
        return linked_dataset(raw, schema)
    return linked_dataset(raw, detect_linked_schema(raw, columns.person, columns.order, columns.max_rows))


def _with_commas(raw: RawTable, request: _ReadRequest) -> RawPoints | None:
    """Return the rows of a table whose numbers have decimal commas, if numbers are expected, else None.

    Numbers are expected if the request names a space or a manifold's modality, or the columns are coordinates.
    """
    columns = [name for name in raw.columns if name.lower() not in LABEL_NAMES]
    coordinates = len(columns) == 2 and coordinate_columns(columns)
    is_numeric = request.like.is_manifold if request.like else request.space or coordinates
    return parse_decimal_commas(raw, request.source, request.choose) if is_numeric and request.schema is None else None


def _rows(raw: RawPoints, request: _ReadRequest) -> Dataset:
    """Convert numeric rows into a data set in the requested space, or in the space recognised by column names."""
    space = request.space
    if request.longest is not None:
        raise UsageError(f"{request.source} contains points, which have no size", remedy="Remove longest")
    if space is None:
        return _by_names(raw)
    if space == "sphere" and raw.values.shape[1] == 2:
        return earth_dataset(raw)
    if space in (FLAT, ANGLES):
        return {FLAT: points_dataset, ANGLES: torsion_dataset}[space](raw)
    return manifold_dataset(raw, place_of(space, raw), project=request.project)


def _by_names(raw: RawPoints) -> Dataset:
    coordinates = coordinate_columns(raw.columns)
    if coordinates and len(raw.columns) == 2:
        return earth_dataset(raw)
    if torsions_among(raw.columns):
        return torsion_dataset(raw)
    if coordinates:
        raw = replace(raw, notes=(*raw.notes, _coordinates_note(coordinates)))
    return points_dataset(raw)


def _coordinates_note(names: tuple[str, ...]) -> str:
    return (
        f"{names[0]} and {names[1]} were read as plain numbers; to model locations on the sphere, use a table of"
        " these two columns only"
    )


def _chains(raw: RawChains) -> Dataset:
    """Return a data set of backbones, with sequences if any are known."""
    return backbone_dataset(raw) if raw.residues is None else protein_dataset(raw)


def _without_options(factory: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Return a function (raw examples, request) -> data set, from a factory that takes only the raw examples.

    UsageError if the request names a space.
    """

    def build(raw: RawExamples, request: _ReadRequest) -> Dataset:
        _refuse_space(request)
        return factory(raw)

    return build


def _refuse_space(request: _ReadRequest) -> None:
    if request.space is not None:
        raise UsageError(
            f"{request.source} has no numeric rows; a space applies to numeric rows only",
            remedy="Remove the space",
            argument="space",
        )


_DATASETS: dict[type[RawExamples], Callable[..., Dataset]] = {
    RawArrays: _without_options(array_dataset),
    RawChains: _without_options(_chains),
    RawCrystals: _without_options(crystal_dataset),
    RawDocuments: _documents,
    RawMolecules: _without_options(molecule_dataset),
    RawImages: _without_options(image_dataset),
    RawPoints: _rows,
    RawWaveforms: lambda raw, request: waveform_dataset(raw, request.longest),
    RawSpeech: _without_options(speech_dataset),
    RawTable: _table,
    RawTables: _linked,
    RawTexts: _texts,
}
"""Function (raw examples, arguments of `read`) -> data set, for each type of raw examples."""
_WITH_VOCABULARY: dict[type[RawExamples], type[Modality]] = {RawDocuments: Documents, RawTexts: Text}
