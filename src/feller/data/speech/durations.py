"""How long each phone of a text lasts, as a table that people can change."""

import pathlib

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.data_plain_text import rows_in
from feller.data.loading.raw import Layout
from feller.data.speech.phones import SIL

TABLE = ".csv"
HEAD = "phone,frames"
"""Frames of 10 ms; phones with their places in their words."""
MOST = 99_999
"""Frames of one phone."""


def write_durations(layout: Layout, path: pathlib.Path) -> None:
    """Write phones in their order, with how long they last."""
    lines = (f"{phone},{length}" for phone, length in zip(layout.phones, layout.durations, strict=True))
    replace_file(path, "\n".join((HEAD, *lines, "")).encode())


def read_durations(path: pathlib.Path, phones: tuple[str, ...]) -> tuple[int, ...]:
    """Return how long each of these phones lasts.

    Raises:
        InputError: If the table is of other phones, or a duration is wrong; silences alone may last nothing.
    """
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows_in(path)]
    head = ",".join(rows[0][1]) if rows else "none"
    if head.lower() != HEAD:
        raise InputError(f"{path}: expected a table with the head {HEAD}, got {head[:40]}")
    found = []
    for line, cells in rows[1:]:
        where = f"{path}: line {line}"
        if len(cells) != 2:
            raise InputError(f"{where}: expected a phone and its frames, got {','.join(cells)[:40]!r}")
        frames = int(cells[1]) if cells[1].isdecimal() and len(cells[1]) <= len(str(MOST)) else -1
        least = int(cells[0] != SIL)
        if frames < least:
            raise InputError(
                f"{where}: expected how many frames of 10 ms {cells[0][:20]} lasts, from {least} to {MOST:,}, got"
                f" {cells[1][:20]!r}"
            )
        found.append((cells[0], frames))
    if len(found) != len(phones):
        raise InputError(
            f"{path}: expected durations of the {len(phones)} phones of the text, silences among them, got"
            f" {len(found)}; is it the table of another text?"
        )
    for i, ((name, _), phone) in enumerate(zip(found, phones, strict=True)):
        if name != phone:
            raise InputError(f"{path}: expected {phone} as phone {i + 1} of the text, got {name[:20]}")
    return tuple(frames for _, frames in found)
