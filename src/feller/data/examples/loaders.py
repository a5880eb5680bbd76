"""Loaders of the example data sets; sources and licences are in `NOTICE.md`."""

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
from feller.data.examples.series import ecg, ecg_series, weather, weather_series
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
    """Return UCI Adult as text cells: 32,561 table rows for `train` or 16,281 for `test`, 15 columns."""
    return load_cells(FOLDER_OF_EXAMPLES / f"adult_{part}.csv.gz")


def adult(part: str) -> Dataset:
    """Return UCI Adult, read with a public schema that does not depend on the rows; models use 14 of the columns."""
    return table_dataset(adult_cells(part), read_schema(FOLDER_OF_EXAMPLES / "adult.schema.json"))


BACKBONES_TRAIN = 40
"""Number of chains in `train`; the later chains in the file are `test`, and no sequence in `train` is similar to
theirs."""
BACKBONES_UNIT = 1e-3
"""Unit of the coordinates in the file, in Å; it equals the precision of PDB files."""


def protein_chains(part: str) -> Dataset:
    """Return protein backbones: the 40 chains of `train` or the 10 chains of `test`, with 30 to 64 residues each."""
    return _as_train(backbone_dataset, _chains, part)


def protein_chains_with_sequences(part: str) -> Dataset:
    """Return the chains of `protein_chains` with their amino-acid sequences."""
    return _as_train(protein_dataset, _chains, part)


def _as_train(make_dataset: Callable[[Any], Dataset], load_raw: Callable[[str], RawExamples], part: str) -> Dataset:
    """Return the examples of `part` (train or test), converted by the modality that was fitted on the part `train`."""
    train = make_dataset(load_raw("train"))
    return train if part == "train" else Dataset(*train.modality.values_from_raw(load_raw(part)), train.modality)


def _chains(part: str) -> RawChains:
    arrays = load_arrays(pathlib.Path(__file__).with_name("backbones.npz"))
    lengths = arrays["lengths"].astype(np.int64)
    valid = np.arange(lengths.max()) < lengths[:, None]
    values, residues = np.zeros((*valid.shape, 4, 3)), np.full(valid.shape, -1)
    values[valid], residues[valid] = arrays["atoms"] * BACKBONES_UNIT, arrays["residues"]
    rows = slice(BACKBONES_TRAIN) if part == "train" else slice(BACKBONES_TRAIN, None)
    return RawChains(values[rows], lengths=lengths[rows], residues=residues[rows])


COMPONENTS = 5
"""Number of principal components of the gene expression used by the example, out of ten in the file."""
CELLS_TEST = 54


def cells(part: str) -> Dataset:
    """Return muscle cells at 0, 24, 48 or 72 hours (69, 74, 79 or 49 cells), or at all hours (217 `train`, 54 `test`).

    Columns are standardised with the statistics of all cells. Each cell has the properties `pseudotime` and `state`,
    its branch. `test` is stratified by hour.
    """
    table = load_table_rows(pathlib.Path(__file__).with_name("cells.csv.gz"))
    columns = {name: table.values[:, i] for i, name in enumerate(table.columns)}
    raw = RawPoints(
        table.values[:, :COMPONENTS],
        columns=table.columns[:COMPONENTS],
        labels=np.searchsorted([float(hour) for hour in HOURS], columns["hours"]),
        classes=HOURS,
        properties={name: columns[name] for name in ("pseudotime", "state")},
    )
    dataset = replace(points_dataset(raw), properties=property_tensors(raw))
    if part in HOURS:
        unlabelled = points_dataset(replace(raw, labels=None, classes=()))
        rows = (dataset.given["label"] == HOURS.index(part)).nonzero()[:, 0]
        return replace(unlabelled, properties=dataset.properties).subset(rows)
    train, test = split(dataset, CELLS_TEST / len(dataset), Rng(0).fold_in("example:cells"))
    return train if part == "train" else test


BOARD_TRAIN, BOARD_TEST = 20_000, 5_000


def checkerboard(part: str) -> Dataset:
    """Return points of a 2D checkerboard: 20,000 (`train`) or 5,000 (`test`).

    The modality of both parts standardises points by the mean and standard deviation of `train`.
    """
    rng = Rng(0).fold_in("example:checkerboard")
    train = points_dataset(RawPoints(_draw_board(BOARD_TRAIN, rng, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_board(BOARD_TEST, rng, 1), {}, train.modality)


def inside(points: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
    """Return True for points on a filled square of the checkerboard: in [-2, 2)^2, with floor(x) + floor(y) even."""
    cell = points.floor()
    return ((cell >= -2) & (cell < 2)).all(1) & (cell.sum(1) % 2 == 0)


def _draw_board(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Sample a square for each point, then its position in the square."""
    stream = rng.stream("points", step)
    square = stream.randint(8, (n,))
    column = square // 2
    row = 2 * (square % 2) + column % 2
    corner = torch.stack([column, row], dim=1).double() - 2
    return corner + stream.uniform((n, 2), dtype=torch.float64)


DIGITS_TEST = 360


def digits(part: str) -> Dataset:
    """Return images of handwritten digits, 8 x 8 pixels: 1,437 (`train`) or 360 (`test`), split stratified by class."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    values = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 8, 8)
    modality = Images(8, 8, 1, levels=16, classes=tuple(str(digit) for digit in range(10)))
    dataset = Dataset(values, {"label": torch.from_numpy(labels).long()}, modality)
    train, test = split(dataset, DIGITS_TEST / len(dataset), Rng(0).fold_in("example:digits"))
    return train if part == "train" else test


EVERY = 3
"""Step in both directions between the points that are taken from the height grid."""
JACKSBORO_TEST = 0.1


def jacksboro(part: str) -> Dataset:
    """Return 3D points of the terrain near Jacksboro: 13,973 for `train` or 1,552 for `test`.

    The coordinates are x (east) and y (north) in [-5, 5], and z (up) in [0, 2], after min-max scaling. One unit is 3.0
    km in x, 3.2 km in y and 420 m in z. The mountain data of "Generalized Schrödinger bridge matching" (arXiv
    2310.02233) are scaled in the same way.
    """
    dataset = points_dataset(RawPoints(surface(), columns=("x", "y", "z")))
    train, test = split(dataset, JACKSBORO_TEST, Rng(0).fold_in("example:jacksboro"))
    return train if part == "train" else test


def surface() -> Float64[np.ndarray, "n 3"]:
    """Return all points [n, 3] of the Jacksboro height grid, row by row from the north."""
    from matplotlib.cbook import get_sample_data

    try:
        path = str(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    except FileNotFoundError as error:
        raise InputError(
            "matplotlib is installed without its sample data", remedy="Install matplotlib from PyPI"
        ) from error
    heights = load_arrays(pathlib.Path(path))["elevation"][::EVERY, ::EVERY].astype(np.float64)
    rows, columns = heights.shape
    north, east = np.meshgrid(np.linspace(5, -5, rows), np.linspace(-5, 5, columns), indexing="ij")
    up = 2 * (heights - heights.min()) / (heights.max() - heights.min())
    return np.stack([east, north, up], axis=-1).reshape(-1, 3)


MOLECULES_TRAIN = 600
"""Number of molecules in `train`; the later molecules in the file belong to the test part of the usual QM9 split."""


def small_molecules(part: str) -> Dataset:
    """Return QM9 molecules of H, C, N, O and F: the 600 molecules of `train` or the 150 molecules of `test`."""
    dataset = molecule_dataset(load_molecules(pathlib.Path(__file__).with_name("molecules.xyz.gz")))
    rows = torch.arange(len(dataset))
    return replace(dataset.subset(rows[:MOLECULES_TRAIN] if part == "train" else rows[MOLECULES_TRAIN:]), notes=())


MOONS_TRAIN, MOONS_TEST = 20_000, 5_000
NOISE = 0.05
GRID = 2.0**-16
"""Grid spacing to which coordinates are rounded, because the last bits of sines and normal samples depend on the
CPU."""


def moons(part: str) -> Dataset:
    """Return points on two interleaving half circles: 20,000 (`train`) or 5,000 (`test`).

    The modality of both parts standardises points by the mean and standard deviation of `train`.
    """
    rng = Rng(0).fold_in("example:moons")
    train = points_dataset(RawPoints(_draw_moons(MOONS_TRAIN, rng, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_moons(MOONS_TEST, rng, 1), {}, train.modality)


def _draw_moons(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Sample points of two moons, rounded to multiples of `GRID`, so that they are identical on all CPUs."""
    return (sample_moons(n, rng, step) / GRID).round() * GRID


def sample_moons(n: int, rng: Rng, step: int) -> Float64[Tensor, "n 2"]:
    """Sample points uniformly on two half circles and add Gaussian noise; their last bits depend on the CPU."""
    stream = rng.stream("points", step)
    lower = stream.randint(2, (n,)).double()
    angle = math.pi * (stream.uniform((n,), dtype=torch.float64) + lower)  # the lower arc is the other half
    centre = torch.stack([lower, lower / 2], dim=1)
    arc = centre + torch.stack([angle.cos(), angle.sin()], dim=1)
    return arc + NOISE * stream.normal((n, 2), dtype=torch.float64)


PEROVSKITES_TRAIN = 2_000
"""Number of unit cells in `train`; the later cells in the file are `test`."""
PEROVSKITES_UNIT = 1e-5
"""Resolution of the numbers in the file: edge lengths in Å, and positions in fractions of an edge."""


def perovskites(part: str) -> Dataset:
    """Return cubic perovskites: the 2,000 unit cells of `train` or the 500 unit cells of `test`."""
    return _as_train(crystal_dataset, _cubes, part)


def _cubes(part: str) -> RawCrystals:
    arrays = load_arrays(pathlib.Path(__file__).with_name("perovskites.npz"))
    atoms, coords = arrays["element"].astype(np.int64), arrays["place"] * PEROVSKITES_UNIT
    lattice = np.full((len(atoms), 6), 90.0)
    lattice[:, :3] = arrays["edge"][:, None] * PEROVSKITES_UNIT
    rows = slice(PEROVSKITES_TRAIN) if part == "train" else slice(PEROVSKITES_TRAIN, None)
    return RawCrystals(coords[rows], atomic_numbers=atoms[rows], lattice=lattice[rows])


SHAKESPEARE_TRAIN = 0.9
"""Fraction of the characters that belong to `train`; the other characters are `test`."""


def shakespeare_text(part: str) -> RawTexts:
    """Return Shakespeare's plays as one text: the first 90 % of the characters (`train`) or the other 10 % (`test`)."""
    plays = _load_shakespeare()
    text = plays.values[0]
    train_length = int(SHAKESPEARE_TRAIN * len(text))
    return replace(plays, values=object_array([text[:train_length] if part == "train" else text[train_length:]]))


def shakespeare(part: str) -> Dataset:
    """Return Shakespeare's plays in windows of 128 characters; the vocabulary has the 65 characters of all plays."""
    characters = "".join(sorted(set(_load_shakespeare().values[0])))
    return text_dataset(shakespeare_text(part), like=Text(Characters(characters), WINDOW, documents=False))


def _load_shakespeare() -> RawTexts:
    return load_text(pathlib.Path(__file__).with_name("shakespeare.txt.gz"))


FOLDER = pathlib.Path(__file__).with_name("spoken_words")
"""Folder with 174 recordings, their transcripts, speakers and alignments, and words missing from the dictionary."""


def spoken_words_raw(part: str) -> RawSpeech:
    """Return recorded sentences: 162 for `train`, by 79 speakers, or 12 for `test`, by 11 of the same speakers."""
    return _part(load_speech(FOLDER), part)


def spoken_words(part: str) -> Dataset:
    """Return log-mel spectrograms of `spoken_words_raw`, with the phone of each frame."""
    recordings = load_speech(FOLDER)
    train = speech_dataset(_part(recordings, "train"))
    if part == "train":
        return train
    return train.modality.dataset_from_raw(_part(recordings, part))


def _part(recordings: RawSpeech, part: str) -> RawSpeech:
    """Select the recordings of a part; the last column of the speaker table gives the part of each."""
    part_of = {row[0]: row[-1] for _, row in rows_in(FOLDER / SPEAKERS)}
    indices = [i for i, name in enumerate(recordings.names) if part_of[name] == part]
    return replace(
        recordings,
        values=recordings.values[indices],
        labels=None if recordings.labels is None else recordings.labels[indices],
        names=tuple(recordings.names[i] for i in indices),
        texts=tuple(recordings.texts[i] for i in indices),
        hashes=tuple(recordings.hashes[i] for i in indices),
        alignments=tuple(recordings.alignments[i] for i in indices),
        notes=(f"{len(indices)} of the {len(recordings.names)} sounds, with precomputed alignments",),
    )


TORSIONS_TRAIN = 7_003
"""Number of residues (rows of the file) in `train`; the later rows are residues of other proteins."""


def torsion_angles(part: str) -> Dataset:
    """Return the angles phi, psi, chi1 and chi2 of tryptophan residues: 7,003 residues (`train`) or 997 (`test`)."""
    dataset = torsion_dataset(load_table_rows(pathlib.Path(__file__).with_name("torsions.csv.gz")))
    rows = torch.arange(len(dataset))
    return dataset.subset(rows[:TORSIONS_TRAIN] if part == "train" else rows[TORSIONS_TRAIN:])


VOLCANO_TEST = 83


def volcano(part: str) -> Dataset:
    """Return volcanic eruptions on the sphere: 744 positions (`train`) or 83 (`test`), some of which are in both."""
    dataset = earth_dataset(load_table_rows(pathlib.Path(__file__).with_name("volcano.csv")))
    train, test = split(dataset, VOLCANO_TEST / len(dataset), Rng(0).fold_in("example:volcano"))
    return train if part == "train" else test


@dataclass(frozen=True)
class Example:
    """Example data set with a training and a test part."""

    info: ExampleInfo
    load: Callable[[str], Dataset]
    """Function from the name of a part to its data set, which is the same on every call."""
    is_inside: Callable[[Float[Tensor, "n d"]], Bool[Tensor, " n"]] | None = None
    """Function that returns True for points in the support of the data; None if the support is unknown."""
    raw: Callable[[str], RawExamples] | None = None
    """Function from the name of a part to its raw contents, for texts and tables, because these have loading options;
    None for other data."""
    folder: pathlib.Path | None = None
    """Folder of source files in the layout of user data, which a user can copy; None if there is no folder."""
    by_name: bool = False
    """True if older runs identify the data by name, because the data's fingerprint contains bits that depend on the
    CPU."""


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
        Example(EXAMPLE_INFOS["ecg"], ecg, raw=ecg_series),
        Example(EXAMPLE_INFOS["weather"], weather, raw=weather_series),
        Example(EXAMPLE_INFOS["spoken-words"], spoken_words, raw=spoken_words_raw, folder=FOLDER, by_name=True),
    )
}
