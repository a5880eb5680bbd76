"""Files that crystals are written to."""

import csv
import io
import pathlib

from feller.core.serialization import replace_file
from feller.data.atoms.formula import formula
from feller.data.crystals.cif import Crystal
from feller.data.crystals.crystals_cif import cif_text
from feller.data.crystals.figure import picture
from feller.data.files import sample_folder
from feller.data.labels import LABEL_NAMES


def blocks_of(crystals: list[Crystal]) -> list[str]:
    """Return a numbered block of CIF for each crystal."""
    names = sample_folder.numbers(len(crystals))
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
    files = [f"{name}.cif" for name in sample_folder.numbers(len(crystals))]
    sample_folder.prepare(out)
    sample_folder.save(picture(crystals), out, files)
    for file, block in zip(files, blocks_of(crystals), strict=True):
        replace_file(out / file, block)
