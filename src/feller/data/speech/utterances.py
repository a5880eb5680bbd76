"""Search for the utterances in a folder: recordings with their transcripts and speakers."""

import pathlib
from dataclasses import dataclass

from feller.core.errors import InputError, error_context
from feller.data.files import sample_folder
from feller.data.files.plain_text import read_unicode, rows_in
from feller.data.path_checks import is_outside, walk_files
from feller.data.speech.audio_io import ENDINGS
from feller.data.speech.lexicon import NAME as LEXICON

TEXT = ".txt"
TABLE = "metadata.csv"
"""Name of the table of transcripts, with lines `id|text` or `id|text|text with numbers in words`."""
SOUNDS = "wavs"
"""Name of the subfolder with the recordings that the table lists, as in LJ Speech."""
SPEAKERS = "speakers.csv"
"""Name of the table of speakers, with the columns `speaker` and `file` or `id`."""
ABOUT = ("readme", "license", "licence", "copying", "notice")
"""Prefixes of the names of text files that are not transcripts."""


@dataclass(frozen=True)
class Utterance:
    """Recording with its transcript."""

    path: pathlib.Path
    name: str
    """Path of the recording relative to the folder."""
    text: str
    speaker: str = ""


def is_sound(path: pathlib.Path) -> bool:
    """Return True if a file has an audio suffix."""
    return path.suffix.lower() in ENDINGS


def holds_sounds(folder: pathlib.Path, others: tuple[str, ...]) -> bool:
    """Return True if a folder has audio files, but no files with suffixes in `others` except overview images."""
    has_sound = False
    for path in walk_files(folder):
        if path.suffix.lower() in others and not sample_folder.is_overview(path):
            return False
        has_sound = has_sound or is_sound(path)
    return has_sound


def holds_texts(folder: pathlib.Path) -> bool:
    """Return True if a folder has a table of transcripts, or a transcript of at least one recording."""
    return (folder / TABLE).is_file() or any(
        path.with_suffix(TEXT).is_file() for path in walk_files(folder) if is_sound(path)
    )


def sounds_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the audio files of a folder; InputError if there are none, or a link leaves the folder."""
    sounds = [path for path in walk_files(folder) if is_sound(path)]
    if not sounds:
        raise InputError(f"audio files ({', '.join(ENDINGS)})", "none", file=folder)
    for path in sounds:
        check_link(path, folder)
    return sounds


def utterances_in(folder: pathlib.Path) -> list[Utterance]:
    """Return the recordings of a folder with their transcripts and speakers.

    Raises:
        InputError: If recordings and transcripts do not match, a transcript is empty, names repeat, or a link leaves
            the folder.
    """
    sounds = sounds_in(folder)
    by_stem: dict[pathlib.Path, pathlib.Path] = {}
    for path in sounds:
        first = by_stem.setdefault(path.with_suffix(""), path)
        if first is not path:
            raise InputError(
                "file names that differ without their suffixes",
                f"{first.name} and {path.name}",
                "Rename or remove one",
                file=folder,
            )
    texts = _table(folder, sounds) if (folder / TABLE).is_file() else _read_transcripts(folder, sounds)
    speakers = _speakers(folder, sounds)
    return [
        Utterance(path, path.relative_to(folder).as_posix(), text, speaker)
        for path, text, speaker in zip(sounds, texts, speakers, strict=True)
    ]


def text_of(path: pathlib.Path) -> str:
    """Return the transcript of the recording `path`; InputError if the transcript is missing or empty."""
    file = path.with_suffix(TEXT)
    if not file.is_file():
        raise InputError("a transcript", "none", f"Write the transcript to {file.name} in the same folder", file=path)
    with error_context(file):
        text = read_unicode(file).strip()
        if not text:
            raise InputError("the transcript is empty", remedy="Write the transcript, or remove it with its recording")
    return text


def check_link(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Raise an InputError if a file is a link to a file outside of a folder."""
    if is_outside(path, folder):
        raise InputError(
            f"a file inside {folder}",
            f"the link {path.name!r} to a file outside this folder",
            "Put the file into the folder",
        )


def _reject_incomplete(folder: pathlib.Path, names: list[str], count: int, problem: str, remedy: str) -> None:
    if names:
        raise InputError(f"{len(names):,} of {count:,} {problem}, such as {names[0]}", remedy=remedy, file=folder)


def _read_transcripts(folder: pathlib.Path, sounds: list[pathlib.Path]) -> list[str]:
    """Return the transcripts of recordings, read from text files of the same names."""
    stems = {path.with_suffix("") for path in sounds}
    texts = [path for path in walk_files(folder) if path.suffix.lower() == TEXT and path.name != LEXICON]
    texts = [path for path in texts if path.with_suffix("") in stems or not path.name.lower().startswith(ABOUT)]
    untranscribed = [path.name for path in sounds if not path.with_suffix(TEXT).is_file()]
    _reject_incomplete(
        folder,
        untranscribed,
        len(sounds),
        "recordings have no transcript",
        f"Write it to a {TEXT} file of the same name or to {TABLE} as id|text, or remove the recording",
    )
    orphans = [path.name for path in texts if path.with_suffix("") not in stems]
    _reject_incomplete(folder, orphans, len(texts), "transcripts have no recording", "Add it, or remove it")
    for path in texts:
        check_link(path, folder)
    return [text_of(path) for path in sounds]


def _table(folder: pathlib.Path, sounds: list[pathlib.Path]) -> list[str]:
    """Return the transcripts of recordings, read from a table, in the order of the recordings."""
    path = folder / TABLE
    check_link(path, folder)
    texts: dict[str, str] = {}
    for line_number, line in enumerate(read_unicode(path).splitlines(), 1):
        if not line.strip():
            continue
        name, *transcripts = (cell.strip() for cell in line.split("|"))
        location = f"{path}: line {line_number}"
        if not name or not 1 <= len(transcripts) <= 2:
            raise InputError("id|text or id|text|text in words", repr(line[:40]), place=location)
        if not transcripts[-1] and not transcripts[0]:
            raise InputError(f"a text for {name}", "none", "Write the text, or remove the line", place=location)
        name = name[: -len(pathlib.Path(name).suffix)] if name.lower().endswith(ENDINGS) else name
        if name in texts:
            raise InputError(f"one line for {name}", "two", "Remove one", place=location)
        texts[name] = transcripts[-1] or transcripts[0]
    names = [path.relative_to(folder).with_suffix("").as_posix().removeprefix(f"{SOUNDS}/") for path in sounds]
    _reject_incomplete(
        folder,
        [name for name in names if name not in texts],
        len(names),
        "recordings have no transcript",
        f"Add them to {TABLE}, or remove the recordings",
    )
    _reject_incomplete(
        folder,
        sorted(texts.keys() - {*names}),
        len(texts),
        f"lines of {TABLE} have no recording",
        "Add it, or remove the line",
    )
    return [texts[name] for name in names]


def _speakers(folder: pathlib.Path, sounds: list[pathlib.Path]) -> list[str]:
    """Return speakers from `speakers.csv`, otherwise from the first subfolder; empty strings without either."""
    table = folder / SPEAKERS
    if table.is_file():
        check_link(table, folder)
        speakers = _read_speaker_table(table)
        names = [_speaker_of(path, folder, speakers) for path in sounds]
        missing = [path.name for path, name in zip(sounds, names, strict=True) if not name]
        _reject_incomplete(
            folder, missing, len(sounds), "recordings have no speaker", f"Add them to {SPEAKERS}, or remove that file"
        )
        return names
    path_parts = [path.relative_to(folder).parts for path in sounds]
    has_subfolders = all(len(parts) > 1 for parts in path_parts) and not (folder / TABLE).is_file()
    return [parts[0] if has_subfolders else "" for parts in path_parts]


def _read_speaker_table(table: pathlib.Path) -> dict[str, str]:
    rows = [cells for _, cells in rows_in(table)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    key = next((name for name in ("file", "id") if name in header), None)
    if key is None or "speaker" not in header:
        raise InputError("the columns file (or id) and speaker", ", ".join(header) or "none", file=table)
    positions = header.index(key), header.index("speaker")
    short_row = next((cells for cells in rows[1:] if len(cells) <= max(positions)), None)
    if short_row is not None:
        raise InputError(f"{len(header)} cells per row", repr(",".join(short_row)[:40]), file=table)
    return {cells[positions[0]].strip(): cells[positions[1]].strip() for cells in rows[1:]}


def _speaker_of(path: pathlib.Path, folder: pathlib.Path, speakers: dict[str, str]) -> str:
    """Return the speaker of a recording, matched by path or name with or without suffix."""
    relative = path.relative_to(folder)
    names = (relative.as_posix(), path.name, relative.with_suffix("").as_posix(), path.stem)
    return next((speakers[name] for name in names if speakers.get(name)), "")
