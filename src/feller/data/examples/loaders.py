"""Example data sets that need no download; `NOTICE.md` beside this file has sources and licences."""

import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.batches import split
from feller.data.crystals.modality import crystal_dataset
from feller.data.examples.registry import EXAMPLE_INFOS, HOURS, ExampleInfo
from feller.data.files.numpy_files import load_arrays
from feller.data.files.plain_text import rows_in
from feller.data.images.modality import Images
from feller.data.loading.raw import (
    RawChains,
    RawCrystals,
    RawExamples,
    RawPoints,
    RawSpeech,
    RawTable,
    RawTexts,
    object_array,
)
from feller.data.modality import Dataset, property_tensors
from feller.data.molecules.modality import molecule_dataset
from feller.data.molecules.molecule_files import load_molecules
from feller.data.points.earth import earth_dataset
from feller.data.points.euclidean_points import points_dataset
from feller.data.points.number_tables import load_table_rows
from feller.data.points.torsions import torsion_dataset
from feller.data.proteins.backbones import backbone_dataset
from feller.data.proteins.modality import protein_dataset
from feller.data.speech.dataset import speech_dataset
from feller.data.speech.files import load_speech
from feller.data.speech.utterances import SPEAKERS
from feller.data.tables.dataframes import load_cells
from feller.data.tables.modality import table_dataset
from feller.data.tables.schema import read_schema
from feller.data.text.dataset import WINDOW, text_dataset
from feller.data.text.files import load_text
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters

FOLDER_OF_EXAMPLES = pathlib.Path(__file__).parent


def adult_cells(part: str) -> RawTable:
    """Return the cells of 32,561 people as `train` or of 16,281 as `test`, 15 columns."""
    return load_cells(FOLDER_OF_EXAMPLES / f"adult_{part}.csv.gz")


def adult(part: str) -> Dataset:
    """Return the same by a schema from the documentation of the data, never from the rows; a model sees 14 columns."""
    return table_dataset(adult_cells(part), read_schema(FOLDER_OF_EXAMPLES / "adult.schema.json"))


BACKBONES_TRAIN = 40
"""Chains of `train`; those after them are like none of these in sequence."""
BACKBONES_UNIT = 1e-3
"""Å, in which the file counts: the precision of PDB files."""


def protein_chains(part: str) -> Dataset:
    """Return the 40 chains of `train` or the 10 of `test`, of 30 to 64 residues."""
    return _as_train(backbone_dataset, _chains, part)


def protein_chains_with_sequences(part: str) -> Dataset:
    """Return the same chains, with their sequences."""
    return _as_train(protein_dataset, _chains, part)


def _as_train(made: Callable[[Any], Dataset], found: Callable[[str], RawExamples], part: str) -> Dataset:
    """Return a part by what `train` tells of the data."""
    train = made(found("train"))
    return train if part == "train" else Dataset(*train.modality.values_from_raw(found(part)), train.modality)


def _chains(part: str) -> RawChains:
    arrays = load_arrays(pathlib.Path(__file__).with_name("backbones.npz"))
    lengths = arrays["lengths"].astype(np.int64)
    valid = np.arange(lengths.max()) < lengths[:, None]
    values, residues = np.zeros((*valid.shape, 4, 3)), np.full(valid.shape, -1)
    values[valid], residues[valid] = arrays["atoms"] * BACKBONES_UNIT, arrays["residues"]
    rows = slice(BACKBONES_TRAIN) if part == "train" else slice(BACKBONES_TRAIN, None)
    return RawChains(values[rows], lengths=lengths[rows], residues=residues[rows])


COMPONENTS = 5
"""First principal components that are read, of the ten that the file holds."""
CELLS_TEST = 54


def cells(part: str) -> Dataset:
    """Return all 69, 74, 79 or 49 cells of an hour, or 217 of all hours as `train` and 54 as `test`, alike in hours.

    All parts have the scales of all cells. `pseudotime` is told beside each, and the branch that it is on, `state`.
    """
    table = load_table_rows(pathlib.Path(__file__).with_name("cells.csv.gz"))
    column = {name: table.values[:, i] for i, name in enumerate(table.columns)}
    raw = RawPoints(
        table.values[:, :COMPONENTS],
        columns=table.columns[:COMPONENTS],
        labels=np.searchsorted([float(hour) for hour in HOURS], column["hours"]),
        classes=HOURS,
        properties={name: column[name] for name in ("pseudotime", "state")},
    )
    whole = replace(points_dataset(raw), properties=property_tensors(raw))
    if part in HOURS:
        plain = points_dataset(replace(raw, labels=None, classes=()))
        rows = (whole.given["label"] == HOURS.index(part)).nonzero()[:, 0]
        return replace(plain, properties=whole.properties).subset(rows)
    train, test = split(whole, CELLS_TEST / len(whole), Rng(0).fold_in("example:cells"))
    return train if part == "train" else test


BOARD_TRAIN, BOARD_TEST = 20_000, 5_000


def checkerboard(part: str) -> Dataset:
    """Return 20,000 points of `train` or 5,000 of `test`; both are scaled by the points of `train`."""
    draws = Rng(0).fold_in("example:checkerboard")
    train = points_dataset(RawPoints(_draw_board(BOARD_TRAIN, draws, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_board(BOARD_TEST, draws, 1), {}, train.modality)


def inside(points: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
    """Tell which points lie on a filled square: in [-2, 2)^2, with an even sum of the coordinates rounded down."""
    cell = points.floor()
    return ((cell >= -2) & (cell < 2)).all(1) & (cell.sum(1) % 2 == 0)


def _draw_board(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Draw a square for each point, then its place there."""
    draw = rng.stream("points", step)
    square = draw.randint(8, (n,))
    column = square // 2
    row = 2 * (square % 2) + column % 2
    corner = torch.stack([column, row], dim=1).double() - 2
    return corner + draw.uniform((n, 2), dtype=torch.float64)


DIGITS_TEST = 360


def digits(part: str) -> Dataset:
    """Return the 1,437 digits of `train` or the 360 of `test`, alike in their classes."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    values = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 8, 8)
    modality = Images(8, 8, 1, levels=16, classes=tuple(str(digit) for digit in range(10)))
    dataset = Dataset(values, {"label": torch.from_numpy(labels).long()}, modality)
    train, test = split(dataset, DIGITS_TEST / len(dataset), Rng(0).fold_in("example:digits"))
    return train if part == "train" else test


EVERY = 3
"""Nodes of the grid of heights from one point to the next, in both directions."""
JACKSBORO_TEST = 0.1


def jacksboro(part: str) -> Dataset:
    """Return 13,973 points of `train` or 1,552 of `test`: x to the east and y to the north in [-5, 5], z up in [0, 2].

    A unit is 3.0 km to the east, 3.2 km to the north and 420 m up: scaled by least and largest, as the mountain of
    "Generalized Schrödinger bridge matching" is.
    """
    whole = points_dataset(RawPoints(surface(), columns=("x", "y", "z")))
    train, test = split(whole, JACKSBORO_TEST, Rng(0).fold_in("example:jacksboro"))
    return train if part == "train" else test


def surface() -> Float64[np.ndarray, "n 3"]:
    """Return all points, row by row from the north."""
    from matplotlib.cbook import get_sample_data

    try:
        place = str(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    except FileNotFoundError as error:
        raise InputError("this matplotlib came without its sample data", remedy="Install it from PyPI") from error
    heights = load_arrays(pathlib.Path(place))["elevation"][::EVERY, ::EVERY].astype(np.float64)
    rows, columns = heights.shape
    north, east = np.meshgrid(np.linspace(5, -5, rows), np.linspace(-5, 5, columns), indexing="ij")
    up = 2 * (heights - heights.min()) / (heights.max() - heights.min())
    return np.stack([east, north, up], axis=-1).reshape(-1, 3)


MOLECULES_TRAIN = 600
"""Molecules of `train`; those after them are of the test part of the usual division of QM9."""


def small_molecules(part: str) -> Dataset:
    """Return the 600 molecules of `train` or the 150 of `test`, of H, C, N, O and F."""
    whole = molecule_dataset(load_molecules(pathlib.Path(__file__).with_name("molecules.xyz.gz")))
    rows = torch.arange(len(whole))
    return replace(whole.subset(rows[:MOLECULES_TRAIN] if part == "train" else rows[MOLECULES_TRAIN:]), notes=())


MOONS_TRAIN, MOONS_TEST = 20_000, 5_000
NOISE = 0.05
GRID = 2.0**-16
"""Distance of the coordinates that there are: sines and normal numbers have other last bits on other processors."""


def moons(part: str) -> Dataset:
    """Return 20,000 points of `train` or 5,000 of `test`; both are scaled by the points of `train`."""
    draws = Rng(0).fold_in("example:moons")
    train = points_dataset(RawPoints(_draw_moons(MOONS_TRAIN, draws, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_moons(MOONS_TEST, draws, 1), {}, train.modality)


def _draw_moons(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Draw points and round them to the grid; none is so near to the middle of two of its lines that bits decide."""
    return (sample_moons(n, rng, step) / GRID).round() * GRID


def sample_moons(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Draw points evenly along both arcs, then move them by the noise; the last bits depend on the processor."""
    draw = rng.stream("points", step)
    lower = draw.randint(2, (n,)).double()
    angle = math.pi * (draw.uniform((n,), dtype=torch.float64) + lower)  # the lower arc is the other half
    centre = torch.stack([lower, lower / 2], dim=1)
    arc = centre + torch.stack([angle.cos(), angle.sin()], dim=1)
    return arc + NOISE * draw.normal((n, 2), dtype=torch.float64)


PEROVSKITES_TRAIN = 2_000
"""Cells of `train`; those after them are `test`."""
PEROVSKITES_UNIT = 1e-5
"""In which the file counts edges, in Å, and places, in edges."""


def perovskites(part: str) -> Dataset:
    """Return the 2,000 cells of `train` or the 500 of `test`."""
    return _as_train(crystal_dataset, _cubes, part)


def _cubes(part: str) -> RawCrystals:
    arrays = load_arrays(pathlib.Path(__file__).with_name("perovskites.npz"))
    atoms, places = arrays["element"].astype(np.int64), arrays["place"] * PEROVSKITES_UNIT
    lattice = np.full((len(atoms), 6), 90.0)
    lattice[:, :3] = arrays["edge"][:, None] * PEROVSKITES_UNIT
    rows = slice(PEROVSKITES_TRAIN) if part == "train" else slice(PEROVSKITES_TRAIN, None)
    return RawCrystals(places[rows], atomic_numbers=atoms[rows], lattice=lattice[rows])


SHAKESPEARE_TRAIN = 0.9
"""Share of the characters that is `train`; those after it are `test`."""


def shakespeare_text(part: str) -> RawTexts:
    """Return the first 90 % of the plays or, as `test`, the rest, as one text."""
    whole = _load_shakespeare()
    text = whole.values[0]
    border = int(SHAKESPEARE_TRAIN * len(text))
    return replace(whole, values=object_array([text[:border] if part == "train" else text[border:]]))


def shakespeare(part: str) -> Dataset:
    """Return windows of 128 characters, of the 65 that all the plays have."""
    symbols = "".join(sorted(set(_load_shakespeare().values[0])))
    return text_dataset(shakespeare_text(part), like=Text(Characters(symbols), WINDOW, documents=False))


def _load_shakespeare() -> RawTexts:
    return load_text(pathlib.Path(__file__).with_name("shakespeare.txt.gz"))


FOLDER = pathlib.Path(__file__).with_name("spoken_words")
"""174 sounds with texts beside them, speakers, words that the dictionary lacks, and alignments that are ready."""


def spoken_words_raw(part: str) -> RawSpeech:
    """Return the 162 sentences of `train` or the 12 of `test`, said by 11 of its 79 speakers."""
    return _part(load_speech(FOLDER), part)


def spoken_words(part: str) -> Dataset:
    """Return log mels of the same, with the phone of each frame."""
    whole = load_speech(FOLDER)
    train = speech_dataset(_part(whole, "train"))
    if part == "train":
        return train
    return train.modality.dataset_from_raw(_part(whole, part))


def _part(whole: RawSpeech, part: str) -> RawSpeech:
    """Keep one part, as the last column of the table of speakers has it."""
    parts = {cells[0]: cells[-1] for _, cells in rows_in(FOLDER / SPEAKERS)}
    kept = [i for i, name in enumerate(whole.names) if parts[name] == part]
    return replace(
        whole,
        values=whole.values[kept],
        labels=None if whole.labels is None else whole.labels[kept],
        names=tuple(whole.names[i] for i in kept),
        texts=tuple(whole.texts[i] for i in kept),
        hashes=tuple(whole.hashes[i] for i in kept),
        alignments=tuple(whole.alignments[i] for i in kept),
        notes=(f"{len(kept)} of the {len(whole.names)} sounds, whose alignments came with them",),
    )


TORSIONS_TRAIN = 7_003
"""Rows of `train`; those after them are residues of other proteins."""


def torsion_angles(part: str) -> Dataset:
    """Return phi, psi, chi1 and chi2 of the 7,003 residues of `train` or the 997 of `test`."""
    whole = torsion_dataset(load_table_rows(pathlib.Path(__file__).with_name("torsions.csv.gz")))
    rows = torch.arange(len(whole))
    return whole.subset(rows[:TORSIONS_TRAIN] if part == "train" else rows[TORSIONS_TRAIN:])


VOLCANO_TEST = 83


def volcano(part: str) -> Dataset:
    """Return the 744 eruptions of `train` or the 83 of `test`, some of which are at the same place."""
    whole = earth_dataset(load_table_rows(pathlib.Path(__file__).with_name("volcano.csv")))
    train, test = split(whole, VOLCANO_TEST / len(whole), Rng(0).fold_in("example:volcano"))
    return train if part == "train" else test


@dataclass(frozen=True)
class Example:
    """One set of data, with a part to train on and one to test on."""

    info: ExampleInfo
    load: Callable[[str], Dataset]
    """Part -> its examples; the same on every call."""
    is_inside: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]] | None = None
    """Which points lie where the data can be; None where nobody can tell."""
    raw: Callable[[str], RawExamples] | None = None
    """Part -> what its file holds, for texts and tables, which can be read in many ways; else None."""
    folder: pathlib.Path | None = None
    """Files that it is made of, as a user's own would be, where these are worth a look; else None."""
    by_name: bool = False
    """Whether older runs know it by its name alone: their fingerprints hold bits that depend on the processor."""


EXAMPLES = {
    example.info.name: example
    for example in (
        Example(EXAMPLE_INFOS["digits"], digits),
        Example(EXAMPLE_INFOS["adult"], adult, raw=adult_cells),
        Example(EXAMPLE_INFOS["moons"], moons, by_name=True),
        Example(EXAMPLE_INFOS["backbones"], protein_chains),
        Example(EXAMPLE_INFOS["proteins"], protein_chains_with_sequences),
        Example(EXAMPLE_INFOS["molecules"], small_molecules),
        Example(EXAMPLE_INFOS["perovskites"], perovskites),
        Example(EXAMPLE_INFOS["cells"], cells),
        Example(EXAMPLE_INFOS["jacksboro"], jacksboro),
        Example(EXAMPLE_INFOS["checkerboard"], checkerboard, inside),
        Example(EXAMPLE_INFOS["volcano"], volcano),
        Example(EXAMPLE_INFOS["torsions"], torsion_angles),
        Example(EXAMPLE_INFOS["shakespeare"], shakespeare, raw=shakespeare_text),
        Example(EXAMPLE_INFOS["spoken-words"], spoken_words, raw=spoken_words_raw, folder=FOLDER, by_name=True),
    )
}
