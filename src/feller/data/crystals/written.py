"""Files that crystals are written to."""

import csv
import io
import pathlib

from feller.data import overview
from feller.data.atoms.formula import formula
from feller.data.crystals.cif import cif_text
from feller.data.crystals.crystal import Crystal
from feller.data.crystals.picture import picture
from feller.data.labels import LABEL_NAMES
from feller.record import replace_file


def blocks_of(crystals: list[Crystal]) -> list[str]:
    """Return a numbered block of CIF for each crystal."""
    names = overview.numbers(len(crystals))
    return [cif_text(crystal, f"sample_{name}") for name, crystal in zip(names, crystals, strict=True)]


def table_of(crystals: list[Crystal]) -> str:
    """Return a table with formula, CIF, and label where there is one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = crystals[0].label is not None
    writer.writerow(["formula", "cif", *([LABEL_NAMES[0]] if named else [])])
    for crystal, block in zip(crystals, blocks_of(crystals), strict=True):
        writer.writerow([formula(crystal.numbers), block, *([crystal.label] if named else [])])
    return text.getvalue()


def write_folder(crystals: list[Crystal], out: pathlib.Path) -> None:
    """Write a CIF file for each crystal, and a picture of the first."""
    files = [f"{name}.cif" for name in overview.numbers(len(crystals))]
    overview.prepare(out)
    overview.save(picture(crystals), out, files)
    for file, block in zip(files, blocks_of(crystals), strict=True):
        replace_file(out / file, block)
