"""Table of all file formats, and detection of the format of a file."""

import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from feller.core.errors import InputError
from feller.core.output_shards import MANIFEST
from feller.data.arrays import ucr_files
from feller.data.arrays.long_tables import holds_series, note_on_missing_time, series_from_sheet
from feller.data.arrays.parquet_lists import holds_lists, load_lists
from feller.data.arrays.zarr_files import is_zarr, load_zarr
from feller.data.crystals import dataset as crystals
from feller.data.crystals import files
from feller.data.database_urls import hide_password, is_database
from feller.data.documents import files as documents
from feller.data.files import sample_folder
from feller.data.files.delimited import Sheet
from feller.data.images import idx
from feller.data.images.image_loading import CAPTION, HEIC, load_image, load_image_folder
from feller.data.images.image_loading import ENDINGS as PICTURES
from feller.data.labels import abbreviated
from feller.data.loading.array_formats import load_arrays_file, raw_from_arrays
from feller.data.loading.decimal_commas import parse_decimal_commas
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
    RawTexts,
    RawWaveforms,
    expect,
)
from feller.data.loading.read_options import ReadOptions
from feller.data.molecules import molecule_files
from feller.data.path_checks import require_exists
from feller.data.points import scans_and_meshes
from feller.data.points.number_tables import parse_rows
from feller.data.proteins import chains
from feller.data.proteins.files import holds_mmcif
from feller.data.speech import files as speech
from feller.data.speech.audio_io import ENDINGS as SOUNDS
from feller.data.speech.utterances import holds_sounds
from feller.data.tables.database_tables import open_database
from feller.data.tables.dataframes import holds_words, load_cells, open_sheet, table_of
from feller.data.text.files import (
    JSON_LINES_FILE,
    LINES_FILE,
    are_texts,
    holds_texts,
    load_json_lines,
    load_text,
    load_text_column,
    load_text_folder,
)

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
ARRAYS = (".npz", ".npy")
MAX_NAMED_FILES = 5
"""Maximum number of file names listed in an error message."""
TEXTS = {
    **dict.fromkeys((".txt", ".txt.gz"), load_text),
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), load_text_column),
    **dict.fromkeys((".jsonl", ".jsonl.gz"), load_json_lines),
}
"""Readers of texts by file suffix; files with these suffixes can also hold other data."""


@dataclass(frozen=True)
class Format:
    """File format: its suffixes, the function that recognises its contents, and the function that reads a file."""

    endings: tuple[str, ...]
    read: Callable[[pathlib.Path, ReadOptions], RawExamples]
    holds: Callable[[pathlib.Path], bool] = lambda path: True
    """Function that returns True if the contents of a path have this format, for a suffix shared by several formats."""
    raw_type: type[RawExamples] = RawExamples
    """Type of raw examples, if the format determines it."""
    folders: bool = False
    """True if `read` accepts a folder of these files as one data set."""


def _up_to(
    read: Callable[[pathlib.Path, int | None], RawExamples], default: int
) -> Callable[[pathlib.Path, ReadOptions], RawExamples]:
    return lambda path, options: read(path, options.max_parts(default))


_crystals = _up_to(crystals.load_crystals, crystals.MAX_ATOMS)
_speech = _up_to(speech.load_speech, speech.MAX_SECONDS)


def _documents(path: pathlib.Path, options: ReadOptions) -> RawExamples:
    return documents.load_json_documents(path, options.size, options.limit)


def _table(path: pathlib.Path, options: ReadOptions) -> RawExamples:
    return raw_from_sheet(open_sheet(path), str(path), options)


def raw_from_sheet(sheet: Sheet | None, where: str, options: ReadOptions) -> RawExamples:
    """Convert a sheet to a table or to points (numeric rows).

    The result is series if the sheet has the columns id and t, or if `options` require them. It is a table if `options`
    require a table, or if the sheet has text columns and `options` select none of its columns. Otherwise it is points.

    Args:
        sheet: Text cells; None for an empty file.
        where: Name of the file, for errors.
        options: Required type of examples, and the function that selects columns.

    Raises:
        InputError: If the sheet is neither a table nor numeric rows.
    """
    if sheet is not None and (
        options.raw_type is RawArrays or (issubclass(RawArrays, options.raw_type) and holds_series(sheet))
    ):
        return series_from_sheet(sheet, where, options.condition)
    raw = _rows_from_sheet(sheet, where, options)
    if sheet is None or options.raw_type is not RawExamples:
        return raw
    return replace(raw, notes=(*raw.notes, *note_on_missing_time(sheet, options.condition)))


def _rows_from_sheet(sheet: Sheet | None, where: str, options: ReadOptions) -> RawExamples:
    """Convert a sheet that holds no series; arguments and errors of `raw_from_sheet`."""
    if sheet is not None and {*options.condition} & {*sheet.first_row}:
        rest, columns = sheet.split(options.condition)
        raw = _rows_from_sheet(rest, where, replace(options, condition=()))
        rows = np.arange(len(sheet.lines)) if raw.lines is None else np.searchsorted(sheet.lines, raw.lines)
        return replace(raw, condition_columns={name: column[rows] for name, column in columns.items()})
    if sheet is None or options.raw_type is RawTable:
        return table_of(sheet, where) if options.raw_type is RawTable else parse_rows(sheet, where)
    selected = options.select_columns(sheet.first_row)
    if issubclass(RawTable, options.raw_type) and not selected and holds_words(sheet):
        return table_of(sheet, where)
    options.check_type(RawPoints)
    if selected and holds_words(sheet, selected):
        rows = parse_decimal_commas(table_of(sheet, where), where, options.select_columns)
        if rows is not None:
            return rows
    return parse_rows(sheet, where, options.select_columns)


FORMATS = (
    Format(
        ucr_files.ENDINGS,
        lambda path, options: ucr_files.load_labelled_series(path),
        ucr_files.holds_labelled_series,
        RawArrays,
    ),
    Format((".parquet",), lambda path, options: load_lists(path, options.condition), holds_lists, RawArrays),
    Format(files.TABLES, _crystals, files.holds_crystals, RawCrystals),
    Format((".jsonl", ".jsonl.gz"), _documents, documents.holds_documents, RawDocuments),
    Format(tuple(TEXTS), lambda path, options: TEXTS[_ending(path)](path), holds_texts, RawTexts),
    Format(TABLES, _table),
    Format(chains.ENDINGS, _up_to(chains.load_backbones, chains.MAX_RESIDUES), holds_mmcif, RawChains, folders=True),
    Format(
        molecule_files.ENDINGS,
        _up_to(molecule_files.load_molecules, molecule_files.MAX_ATOMS),
        raw_type=RawMolecules,
        folders=True,
    ),
    Format(files.ENDINGS, _crystals, lambda path: not holds_mmcif(path), RawCrystals, folders=True),
    Format(ARRAYS, load_arrays_file),
    Format(scans_and_meshes.ENDINGS, lambda path, options: scans_and_meshes.load_scan(path), raw_type=RawPoints),
    Format(SOUNDS, _speech, raw_type=RawSpeech),
    Format(
        (*PICTURES, *HEIC),
        lambda path, options: load_image(path, options.size, options.limit, options.image_size),
        raw_type=RawImages,
    ),
)
"""All formats, in order of detection."""


def load_raw(path: pathlib.Path, options: ReadOptions) -> RawExamples:
    """Read a file or folder of any known format; InputError if `path` is missing, empty or not recognised."""
    try:
        if options.raw_type is RawWaveforms and path.exists():  # ignoring transcripts and labels
            return speech.load_waveforms(path) if options.is_unlimited else speech.load_audible_waveforms(path)
        return _find_in_folder(path, options) if path.is_dir() else _find_in_file(path, options)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from error


def holds_cells(path: pathlib.Path) -> bool:
    """Return True if a file is a table of words or numbers, and not of texts, series, crystals or other examples."""
    ending = _ending(path)
    fmt = next((fmt for fmt in FORMATS if ending in fmt.endings and fmt.holds(path)), None)
    return fmt is not None and fmt.read is _table


def load_table(source: str | os.PathLike[str]) -> RawTable:
    """Read a table file of any format, or a database table, as cells; InputError if it is missing or not a table."""
    source = hide_password(os.fspath(source))
    if is_database(source):
        return expect(load_database(source, ReadOptions(limit=None, raw_type=RawTable)), RawTable)
    return expect(load_raw(pathlib.Path(source), ReadOptions(limit=None, raw_type=RawTable)), RawTable)


def load_database(source: str, options: ReadOptions) -> RawExamples:
    """Read a table of a database, named by a URL without password; errors as `open_database`."""
    return raw_from_sheet(open_database(source), source, options)


def load_texts(path: pathlib.Path, options: ReadOptions = ReadOptions(limit=None)) -> RawExamples:  # noqa: B008 - frozen
    """Read texts, even if they look like numbers; a file whose format cannot hold texts is read by `load_raw`.

    Raises:
        InputError: If the path is missing or its format is not recognised.
    """
    reader = TEXTS.get(_ending(path))
    if reader is None or not path.is_file() or path.stat().st_size == 0 or _holds_documents(path):
        return load_raw(path, options)
    try:
        return reader(path)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from error


def _holds_documents(path: pathlib.Path) -> bool:
    return ".jsonl" in path.suffixes and documents.holds_documents(path)


def _ending(path: pathlib.Path) -> str:
    """Return the file suffix, including the inner one of .gz."""
    suffix = path.suffix.lower()
    return f"{path.with_suffix('').suffix.lower()}{suffix}" if suffix == ".gz" else suffix


def _find_in_file(path: pathlib.Path, options: ReadOptions) -> RawExamples:
    require_exists(path)
    if not path.is_file():
        raise InputError("a regular file", "a pipe or a device", "Copy the data to a file", file=path)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", file=path)
    if idx.ANY.fullmatch(path.name):
        return idx.load_idx(path, options.size, options.limit)
    ending = _ending(path)
    if options.raw_type is RawTable and ending in TABLES:  # skip detection of other contents
        return load_cells(path)
    for fmt in FORMATS:
        if ending in fmt.endings and fmt.holds(path):
            options.check_type(fmt.raw_type)
            return fmt.read(path, options)
    if ending == ".json" and documents.holds_symbols(path):
        raise InputError(
            "image tokens can be decoded only by the model that generated them",
            remedy="Write documents to .jsonl, .npz or a folder instead",
            file=path,
        )
    endings = dict.fromkeys(ending for fmt in FORMATS for ending in fmt.endings)
    raise InputError(
        f"the file type is not recognised; expected {', '.join(endings)}, idx3-ubyte, or a folder of images,"
        " sounds or structures",
        file=path,
    )


def _find_in_folder(folder: pathlib.Path, options: ReadOptions) -> RawExamples:
    """Read the examples of a folder whose type is recognised by its files, such as samples of feller or sounds."""
    if not any(folder.iterdir()):
        raise InputError("the folder is empty", file=folder)
    if is_zarr(folder):
        return raw_from_arrays(load_zarr(folder), str(folder), options)
    if (series := ucr_files.set_in_folder(folder)) is not None:
        options.check_type(RawArrays)
        return ucr_files.load_labelled_series(series[0])
    idx_file = idx.choose_images_file(folder)
    if idx_file is not None:
        raw = idx.load_idx(idx_file[0], options.size, options.limit)
        return replace(raw, notes=(*idx_file[1], *raw.notes))
    if sample_folder.is_overview(folder / sample_folder.OVERVIEW_FILE):
        table, json_lines, lines = folder / sample_folder.TABLE_FILE, folder / JSON_LINES_FILE, folder / LINES_FILE
        if table.is_file():
            return _table(table, options)
        if lines.is_file():
            return load_json_lines(json_lines) if json_lines.is_file() else load_text(lines)
        if json_lines.is_file():
            return _documents(json_lines, options)
    is_captioned = options.raw_type in (RawExamples, RawDocuments) and CAPTION not in options.condition
    if is_captioned and documents.holds_pairs(folder):
        return documents.load_captioned_images(folder, options.size, options.limit)
    if holds_sounds(folder, PICTURES):
        options.check_type(RawSpeech)
        return _speech(folder, options)
    paths = sorted(folder.iterdir())
    document_files = [path for path in paths if path.is_file() and _holds_documents(path)]
    if options.raw_type in (RawExamples, RawDocuments) and len(document_files) > 1:
        raise InputError(
            "one file of documents", len(document_files), f"Give one file, such as {document_files[0]}", file=folder
        )
    if options.raw_type in (RawExamples, RawDocuments) and document_files:
        return _documents(document_files[0], options)
    text_files = {path for path in paths if ".jsonl" in path.suffixes and path.is_file() and holds_texts(path)}
    by_format = {fmt: [path for path in paths if _ending(path) in fmt.endings] for fmt in FORMATS}
    for fmt in (fmt for fmt in FORMATS if fmt.folders):
        by_format[fmt] = [
            path for path in by_format[fmt] if path not in text_files and path.is_file() and fmt.holds(path)
        ]
    matched = [fmt for fmt in FORMATS if fmt.folders and by_format[fmt]]
    if len(matched) > 1:
        counts = " and ".join(f"{len(by_format[fmt])} of {fmt.raw_type.name}" for fmt in matched)
        raise InputError("files of one type", counts, "Use a folder with one type of files", file=folder)
    for fmt in matched:
        options.check_type(fmt.raw_type)
        raw = fmt.read(folder, options)
        return replace(raw, notes=(*_skipped(paths, by_format[fmt], fmt), *raw.notes))
    if are_texts(_data_in(folder)):
        options.check_type(RawTexts)
        return load_text_folder(folder, options.folders)
    table_files = [path for fmt in FORMATS if fmt.raw_type is not RawImages for path in by_format[fmt]]
    if table_files and not any(path.is_dir() or _ending(path) in PICTURES for path in paths):
        filled = min((path for path in table_files if path.stat().st_size), default=min(table_files))
        if (folder / MANIFEST).is_file() and _ending(filled) != ".parquet":
            raise InputError(
                f"contains sample shards in the format {_ending(filled)}, which cannot be read together",
                remedy="Sample with `feller sample --shard-size` and an --out such as NAME.parquet, or"
                f" give one file, such as {filled}",
                file=folder,
            )
        raise InputError(expected="images, texts or structures", remedy=f"Give one file, such as {filled}", file=folder)
    if is_captioned:
        _refuse_captions(folder, paths)
    return load_image_folder(
        folder, options.size, options.limit, options.condition, to=options.image_size, folders=options.folders
    )


def _data_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files in a folder and its subfolders whose suffix is that of a data format."""
    endings = {ending for fmt in FORMATS for ending in fmt.endings}
    folders = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    paths = (
        path
        for subfolder in folders
        if not subfolder.name.startswith(".") or subfolder == folder
        for path in subfolder.iterdir()
    )
    return [path for path in paths if path.is_file() and not path.name.startswith(".") and _ending(path) in endings]


def _refuse_captions(folder: pathlib.Path, paths: list[pathlib.Path]) -> None:
    """Raise InputError on subfolders of captioned images: as class folders, they would lose their captions."""
    subfolders = [path for path in paths if path.is_dir() and not path.name.startswith(".")]
    captioned = [path for path in subfolders if documents.holds_pairs(path)]
    if captioned:
        largest = max(captioned, key=lambda path: len(list(path.iterdir())))
        raise InputError(
            "the subfolders contain images with captions",
            remedy=f"Give one subfolder, such as {largest}, or remove the captions if the subfolders are classes",
            file=folder,
        )


def _skipped(paths: list[pathlib.Path], used: list[pathlib.Path], fmt: Format) -> tuple[str, ...]:
    """Return a note that names the files in `paths` that are not in `used`; empty if there are none.

    The files that feller itself writes into a sample folder are not named.
    """
    skipped = sorted({*paths}.difference(used))
    if any(map(sample_folder.is_overview, skipped)):
        skipped = [
            path
            for path in skipped
            if path.name != sample_folder.OVERVIEW_FILE and not sample_folder.SAMPLE_FILE_NAMES.fullmatch(path.name)
        ]
    if not skipped:
        return ()
    names = abbreviated([path.name for path in skipped], MAX_NAMED_FILES)
    phrase = "file that is" if len(skipped) == 1 else "files that are"
    return (f"skipped {len(skipped)} {phrase} not {fmt.raw_type.name}: {names}",)
