"""Rows of the US census of 1994, with a public schema."""

import pathlib

from feller.data.loading.raw import FoundTable
from feller.data.modality import Dataset
from feller.data.tables.find import find_cells
from feller.data.tables.modality import tables
from feller.data.tables.written import read_schema

HERE = pathlib.Path(__file__).parent


def adult_cells(part: str) -> FoundTable:
    """Return the cells of 32,561 people as `train` or of 16,281 as `test`, 15 columns."""
    return find_cells(HERE / f"adult_{part}.csv.gz")


def adult(part: str) -> Dataset:
    """Return the same by a schema from the documentation of the data, never from the rows; a model sees 14 columns."""
    return tables(adult_cells(part), read_schema(HERE / "adult.schema.json"))
