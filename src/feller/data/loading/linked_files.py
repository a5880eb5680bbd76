"""Reading of several tables that are linked by keys: a folder of table files, or a dict of data frames."""

import itertools
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from feller.core.errors import InputError, error_context
from feller.data.database_urls import is_database, with_selection
from feller.data.files import database, sample_folder
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import check_frame, is_frames, with_index
from feller.data.loading.raw import RawTables
from feller.data.tables.dataframes import from_frame

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
"""Endings of the files of a folder of tables."""
MAX_TABLES = 100
MIN_TABLES = 2


def table_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the table files of a folder."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in TABLE_ENDINGS and path.is_file() and not path.name.startswith(".")
    ]


def holds_linked_tables(source: object) -> bool:
    """Return True for a database URL of several tables, or a folder that holds several tables with different columns.

    The folder may hold nothing else, except JSON files.
    """
    if is_frames(source):
        return True
    if isinstance(source, str) and is_database(source):
        return bool(database.linked_tables(source))
    folder = pathlib.Path(source) if isinstance(source, str | os.PathLike) else None
    if folder is None or not folder.is_dir():
        return False
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    children = [*itertools.islice(visible, MAX_TABLES + 2)]  # folders of images may have many files
    if len(children) > MAX_TABLES + 1 or any(map(sample_folder.is_overview, children)):
        return False
    tables = table_files(folder)
    others = [path for path in children if path not in tables and path.suffix.lower() not in (".json", ".md", ".txt")]
    names = {re.sub(r"[\d_.-]+$", "", path.stem) for path in tables}
    is_numbered = len(names) < len(tables)  # parts of one table
    return len(tables) >= MIN_TABLES and not others and not is_numbered and len({*map(_header, tables)}) > 1


def _header(path: pathlib.Path) -> tuple[str, ...]:
    """Return the column names of a table file, as they are written."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        try:
            return tuple(pyarrow.parquet.read_schema(path).names)
        except (OSError, pyarrow.ArrowException):
            return ()  # damaged: the error comes from its reader
    with path.open("rb") as stream:
        return (stream.readline(1_000_000).decode("utf-8-sig", "replace").strip(),)


def load_tables(source: str | os.PathLike[str] | Mapping[str, pd.DataFrame]) -> RawTables:
    """Read the tables of a folder, named as their files, of a database with its declared keys, or of data frames.

    Raises:
        InputError: If a table is damaged, or there are fewer than two.
    """
    tables, keys = {}, {}
    if isinstance(source, str) and is_database(source):
        keys = database.declared_keys(source, database.linked_tables(source))
        for name in keys:
            with error_context(place=name):
                tables[name] = load_table(with_selection(source, name))
    elif isinstance(source, str | os.PathLike):
        for path in table_files(pathlib.Path(source)):
            if path.stem in tables:
                raise InputError("one file per table", f"two files named {path.stem}", "Remove one", file=path)
            tables[path.stem] = load_table(path)
    else:
        for name, frame in source.items():
            with error_context(place=name):
                frame, _ = with_index(frame)
                check_frame(frame)
                tables[name] = from_frame(frame)
    if len(tables) < MIN_TABLES:
        raise InputError("several tables (.csv, .tsv or .parquet)", len(tables), "Give the file of a single table")
    return RawTables(np.zeros(0), tables=tables, keys=keys)
