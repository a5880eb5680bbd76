"""From a path to what lies there: the formats that are known, one table of them."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from feller.core.errors import InputError
from feller.core.output_shards import MANIFEST
from feller.data.crystals import dataset as crystals
from feller.data.crystals import files
from feller.data.documents import files as documents
from feller.data.files import sample_folder
from feller.data.files.delimited import Sheet
from feller.data.images import idx
from feller.data.images.load_images import ENDINGS as PICTURES
from feller.data.images.load_images import find_picture, find_pictures
from feller.data.labels import first_of
from feller.data.loading.decimal_commas import rows_with_commas
from feller.data.loading.interpret import find_arrays
from feller.data.loading.raw import (
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
    expect,
)
from feller.data.loading.read_options import Asked
from feller.data.molecules import collect
from feller.data.path_checks import check_there
from feller.data.points import scans_and_meshes
from feller.data.points.tables import rows_found
from feller.data.proteins import chains
from feller.data.proteins.files import holds_mmcif
from feller.data.speech import files as speech
from feller.data.speech.audio_io import ENDINGS as SOUNDS
from feller.data.speech.utterances import holds_sounds
from feller.data.tables.dataframes import find_cells, holds_words, open_sheet, table_of
from feller.data.text.files import (
    LINES,
    WHOLE,
    are_texts,
    find_column,
    find_json_lines,
    find_text,
    find_texts_in,
    holds_texts,
)

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
ARRAYS = (".npz", ".npy")
NAMED = 5
"""Files that are named where others are counted only."""
TEXTS = {
    **dict.fromkeys((".txt", ".txt.gz"), find_text),
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), find_column),
    **dict.fromkeys((".jsonl", ".jsonl.gz"), find_json_lines),
}
"""What reads texts, by the ending of the file, which may hold something else too."""


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    endings: tuple[str, ...]
    read: Callable[[pathlib.Path, Asked], Found]
    holds: Callable[[pathlib.Path], bool] = lambda path: True
    """Look into a file whose ending leaves it open."""
    kind: type[Found] = Found
    """What such files hold, where they cannot hold anything else."""
    folders: bool = False
    """A folder of such files is one set of data, which `read` reads."""


def _up_to(read: Callable[[pathlib.Path, int | None], Found], most: int) -> Callable[[pathlib.Path, Asked], Found]:
    return lambda path, asked: read(path, asked.most(most))


_crystals = _up_to(crystals.find_crystals, crystals.MAX_ATOMS)
_speech = _up_to(speech.find_speech, speech.LONGEST)


def _documents(path: pathlib.Path, asked: Asked) -> Found:
    return documents.find_json_documents(path, asked.size, asked.limit)


def _table(path: pathlib.Path, asked: Asked) -> Found:
    return find_in_sheet(open_sheet(path), str(path), asked)


def find_in_sheet(sheet: Sheet | None, where: str, asked: Asked) -> Found:
    """Take a sheet for a table if that is wanted, or if it has columns of words and no others that count alone.

    Raises:
        InputError: If it is neither a table nor rows of numbers.
    """
    if sheet is None or asked.kind is FoundTable:
        return table_of(sheet, where) if asked.kind is FoundTable else rows_found(sheet, where)
    chosen = asked.choose(sheet.first)
    if issubclass(FoundTable, asked.kind) and not chosen and holds_words(sheet):
        return table_of(sheet, where)
    asked.check(FoundRows)
    if chosen and holds_words(sheet, chosen):
        rows = rows_with_commas(table_of(sheet, where), where, asked.choose)
        if rows is not None:
            return rows
    return rows_found(sheet, where, asked.choose)


FORMATS = (
    Format(files.TABLES, _crystals, files.holds_crystals, FoundCrystals),
    Format((".jsonl", ".jsonl.gz"), _documents, documents.holds_documents, FoundDocuments),
    Format(tuple(TEXTS), lambda path, asked: TEXTS[_ending(path)](path), holds_texts, FoundTexts),
    Format(TABLES, _table),
    Format(chains.ENDINGS, _up_to(chains.find_backbones, chains.LONGEST), holds_mmcif, FoundChains, folders=True),
    Format(collect.ENDINGS, _up_to(collect.find_molecules, collect.LONGEST), kind=FoundMolecules, folders=True),
    Format(files.ENDINGS, _crystals, lambda path: not holds_mmcif(path), FoundCrystals, folders=True),
    Format(ARRAYS, find_arrays),
    Format(scans_and_meshes.ENDINGS, lambda path, asked: scans_and_meshes.find_scan(path), kind=FoundRows),
    Format(SOUNDS, _speech, kind=FoundSpeech),
    Format(PICTURES, lambda path, asked: find_picture(path, asked.size, asked.limit), kind=FoundPictures),
)
"""All that is known, in the order in which they are tried."""


def find(path: pathlib.Path, asked: Asked) -> Found:
    """Read a file or a folder, whatever it is; InputError if nothing is there, or nothing that can be read."""
    try:
        if asked.kind is FoundSounds and path.exists():  # whatever else is told of them
            return speech.find_sounds(path) if asked.as_they_are else speech.find_audible(path)
        return _find_in_folder(path, asked) if path.is_dir() else _find_in_file(path, asked)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from error


def table_cells(path: pathlib.Path) -> FoundTable:
    """Read a table of any kind as cells; InputError if nothing is there, or no table."""
    return expect(find(path, Asked(limit=None, kind=FoundTable)), FoundTable)


def find_texts(path: pathlib.Path, asked: Asked = Asked(limit=None)) -> Found:  # noqa: B008 - frozen
    """Read texts, also those that look like numbers; what cannot hold any is read as by `find`.

    Raises:
        InputError: If nothing is there, or nothing that can be read.
    """
    reader = TEXTS.get(_ending(path))
    if reader is None or not path.is_file() or path.stat().st_size == 0 or _holds_documents(path):
        return find(path, asked)
    try:
        return reader(path)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from error


def _holds_documents(path: pathlib.Path) -> bool:
    return ".jsonl" in path.suffixes and documents.holds_documents(path)


def _ending(path: pathlib.Path) -> str:
    """Return the end of a name that tells the kind, also of a file that is packed."""
    last = path.suffix.lower()
    return f"{path.with_suffix('').suffix.lower()}{last}" if last == ".gz" else last


def _find_in_file(path: pathlib.Path, asked: Asked) -> Found:
    check_there(path)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", file=path)
    if idx.ANY.fullmatch(path.name):
        return idx.find_idx(path, asked.size, asked.limit)
    ending = _ending(path)
    if asked.kind is FoundTable and ending in TABLES:  # whatever else it could hold
        return find_cells(path)
    for kind in FORMATS:
        if ending in kind.endings and kind.holds(path):
            asked.check(kind.kind)
            return kind.read(path, asked)
    if ending == ".json" and documents.holds_symbols(path):
        raise InputError(
            "these numbers mean something to the model that drew them alone",
            remedy="Write documents to .jsonl, .npz or a folder, which are read",
            file=path,
        )
    known = dict.fromkeys(ending for kind in FORMATS for ending in kind.endings)
    raise InputError(
        f"cannot tell what it is by its ending; expected {', '.join(known)}, idx3-ubyte, or a folder of pictures,"
        " sounds or structures",
        file=path,
    )


def _find_in_folder(folder: pathlib.Path, asked: Asked) -> Found:
    """Read a folder of ours, of sounds, documents, structures or texts, or else of pictures."""
    if not any(folder.iterdir()):
        raise InputError("the folder is empty", file=folder)
    chosen = idx.choose(folder)
    if chosen is not None:
        found = idx.find_idx(chosen[0], asked.size, asked.limit)
        return replace(found, notes=(*chosen[1], *found.notes))
    if sample_folder.is_ours(folder / sample_folder.NAME):
        table, whole, lines = folder / sample_folder.TABLE, folder / WHOLE, folder / LINES
        if table.is_file():
            return _table(table, asked)
        if lines.is_file():
            return find_json_lines(whole) if whole.is_file() else find_text(lines)
        if whole.is_file():
            return _documents(whole, asked)
    if asked.kind in (Found, FoundDocuments) and documents.holds_pairs(folder):
        return documents.find_pairs(folder, asked.size, asked.limit)
    if holds_sounds(folder, PICTURES):
        asked.check(FoundSpeech)
        return _speech(folder, asked)
    inside = sorted(folder.iterdir())
    written = [path for path in inside if path.is_file() and _holds_documents(path)]
    if asked.kind in (Found, FoundDocuments) and len(written) > 1:
        raise InputError("one file of documents", len(written), f"Name one, such as {written[0]}", file=folder)
    if asked.kind in (Found, FoundDocuments) and written:
        return _documents(written[0], asked)
    texts = {path for path in inside if ".jsonl" in path.suffixes and path.is_file() and holds_texts(path)}
    held = {kind: [path for path in inside if _ending(path) in kind.endings] for kind in FORMATS}
    for kind in (kind for kind in FORMATS if kind.folders):
        held[kind] = [path for path in held[kind] if path not in texts and path.is_file() and kind.holds(path)]
    sets = [kind for kind in FORMATS if kind.folders and held[kind]]
    if len(sets) > 1:
        counts = " and ".join(f"{len(held[kind])} of {kind.kind.name}" for kind in sets)
        raise InputError("files of one kind", counts, "Give a folder with one kind alone", file=folder)
    for kind in sets:
        asked.check(kind.kind)
        found = kind.read(folder, asked)
        return replace(found, notes=(*_skipped(inside, held[kind], kind), *found.notes))
    if are_texts(_data_in(folder)):
        asked.check(FoundTexts)
        return find_texts_in(folder)
    tables = [path for kind in FORMATS if kind.kind is not FoundPictures for path in held[kind]]
    if tables and not any(path.is_dir() or _ending(path) in PICTURES for path in inside):
        filled = min((path for path in tables if path.stat().st_size), default=min(tables))
        if (folder / MANIFEST).is_file() and _ending(filled) != ".parquet":
            raise InputError(
                f"holds shards of samples as {_ending(filled)}, which are not read together",
                remedy="Draw points and rows with `feller sample --shard` and an --out such as NAME.parquet, or"
                f" name one file, such as {filled}",
                file=folder,
            )
        raise InputError(
            expected="pictures, texts or structures", remedy=f"Name one file, such as {filled}", file=folder
        )
    if asked.kind in (Found, FoundDocuments):
        _refuse_captions(folder, inside)
    return find_pictures(folder, asked.size, asked.limit)


def _data_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of a folder and of its sub-folders that could be data by their endings."""
    known = {ending for kind in FORMATS for ending in kind.endings}
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    inside = (path for place in places if not place.name.startswith(".") or place == folder for path in place.iterdir())
    return [path for path in inside if path.is_file() and not path.name.startswith(".") and _ending(path) in known]


def _refuse_captions(folder: pathlib.Path, inside: list[pathlib.Path]) -> None:
    """Refuse folders of pictures with captions, whose texts would be lost if each were a class."""
    shown = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
    captioned = [path for path in shown if documents.holds_pairs(path)]
    if captioned:
        largest = max(captioned, key=lambda path: len(list(path.iterdir())))
        raise InputError(
            "pictures with captions lie in folders inside",
            remedy=f"Name one, such as {largest}, or take the texts out if the folders are classes",
            file=folder,
        )


def _skipped(inside: list[pathlib.Path], read: list[pathlib.Path], kind: Format) -> tuple[str, ...]:
    """Tell what else lies in a folder of structures, but for what we write beside them."""
    others = sorted({*inside}.difference(read))
    if any(map(sample_folder.is_ours, others)):
        others = [
            path for path in others if path.name != sample_folder.NAME and not sample_folder.OWN.fullmatch(path.name)
        ]
    if not others:
        return ()
    names = first_of([path.name for path in others], NAMED)
    what = "file that is" if len(others) == 1 else "files that are"
    return (f"skipped {len(others)} {what} no {kind.kind.name}: {names}",)
