"""Example data sets: sizes, distributions and reproducibility."""

import pathlib
import re
import sys

import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.core.optional_dependency import NotInstalledError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.data.examples import loaders
from feller.data.examples.example_files import copy_example
from feller.data.examples.loaders import EXAMPLES, GRID, MOONS_TEST, MOONS_TRAIN, inside, sample_moons, surface
from feller.data.examples.registry import EXAMPLE_INFOS
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.points.earth import Earth
from feller.data.speech.alignment_files import read_alignments
from feller.data.speech.audio_io import read_sound
from feller.data.speech.files import load_speech
from feller.data.speech.forced_alignment import ForcedAligner
from feller.data.speech.lexicon import Lexicon, cmu_entries, own_words
from feller.data.speech.mel import filters
from tests.errors import refuses


def parts(name: str, n_train: int, n_test: int) -> tuple[Dataset, Dataset]:
    """Return both parts of an example, which have these sizes and one modality."""
    train, test = read(f"example:{name}"), read(f"example:{name}/test")
    assert (len(train), len(test)) == (n_train, n_test)
    assert train.modality == test.modality
    return train, test


def test_digits_equal_scikit_learn_and_are_stratified() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    train, test = parts("digits", 1437, 360)
    assert train.modality.levels == 16
    rows = torch.cat([train.values, test.values]).flatten(1).numpy()
    both = np.concatenate([rows, torch.cat([train.given["label"], test.given["label"]]).numpy()[:, None]], axis=1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, np.c_[pixels, labels].astype(int).tolist()))
    counts = test.given["label"].bincount() / torch.from_numpy(labels).bincount()
    assert (counts - 360 / 1797).abs().max() < 0.004  # half an example of a class


@pytest.mark.slow
def test_examples_do_not_depend_on_global_seeds() -> None:
    for name in EXAMPLES:
        torch.manual_seed(1)
        np.random.seed(1)
        first = read(f"example:{name}")
        torch.manual_seed(2)
        np.random.seed(2)
        state = torch.get_rng_state()
        second = leaves(read(f"example:{name}").values)
        assert all(torch.equal(a, b) for a, b in zip(leaves(first.values), second, strict=True))
        assert torch.equal(state, torch.get_rng_state())


def test_order_of_digits() -> None:
    """Reports are comparable only as long as these numbers do not change."""
    assert read("example:digits/test").given["label"][:12].tolist() == [3, 4, 6, 9, 2, 8, 9, 4, 6, 7, 5, 9]
    assert read("example:digits/test").values.sum() == 113205


@pytest.mark.parametrize("name", ["moons", "checkerboard"])
def test_points_are_standardised(name: str) -> None:
    train, test = parts(name, 20_000, 5_000)
    assert not (train.values[:5000] == test.values).any()
    state = train.modality.encode(train.values)
    assert torch.allclose(state.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(state.std(0), torch.ones(2), atol=1e-4)


def test_checkerboard_is_uniform_on_its_squares() -> None:
    for part in ("", "/test"):
        values = read(f"example:checkerboard{part}").values
        assert inside(values).all()
        cell = values.floor().long() + 2
        counts = (4 * cell[:, 0] + cell[:, 1]).bincount(minlength=16).double()
        expected = len(values) / 8
        assert int((counts > 0).sum()) == 8
        assert ((counts[counts > 0] - expected) ** 2 / expected).sum() < 29.9  # chi^2, 7 degrees: chance 1e-4
        place = (values % 1).flatten().sort().values
        grid = torch.arange(1, len(place) + 1) / len(place)
        assert (place - grid).abs().max() < 2.3 / len(place) ** 0.5  # Kolmogorov-Smirnov: chance 5e-5


def test_inside_at_borders() -> None:
    at = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [-2.0, -2.0], [2.0, 2.0], [-2.1, -1.5], [1.9, -0.5], [-1.5, 0.2]])
    assert inside(at).tolist() == [True, False, True, False, False, True, True]


def test_moons_are_two_noisy_arcs() -> None:
    values = read("example:moons").values
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    radius = (values[:, None] - centre).norm(dim=2)
    arc = (radius - 1).abs().argmin(1)
    off = radius[torch.arange(len(values)), arc] - 1
    ends = values[:, 1] * (1 - 2 * arc) + arc * 0.5  # height above the line through the ends of the arc
    middle = ends > 0.3
    assert 0.047 < off[middle].std() < 0.053  # 20,000 draws give 0.05 within 0.0005
    assert off.abs().max() < 0.35
    assert abs(float((arc == 0).double().mean()) - 0.5) < 0.05
    assert values[:, 0].min() > -1.3
    assert values[:, 0].max() < 2.3


def test_every_example_has_a_notice() -> None:
    assert EXAMPLES.keys() == EXAMPLE_INFOS.keys()
    notice = (pathlib.Path(loaders.__file__).parent / "NOTICE.md").read_text()
    for name, example in EXAMPLES.items():
        assert example.info.name == name
        assert f"`{name}`" in notice
        assert all((example.info.summary, example.info.source, example.info.licence))


def test_volcano_example() -> None:
    train, _ = parts("volcano", 744, 83)
    assert train.modality == Earth(("LATITUDE", "LONGITUDE"))
    state = train.modality.encode(train.values)
    assert (state.norm(dim=1) - 1).abs().max() < 1e-6
    etna = torch.tensor([37.73, 15.0], dtype=torch.float64)
    assert int(((train.values - etna).abs().amax(1) < 0.1).sum()) > 5


def test_torsions_of_tryptophan() -> None:
    """Most residues are in a helix or a sheet; no row of one part is in the other."""
    train, test = parts("torsions", 7003, 997)
    assert train.modality.columns == ("phi", "psi", "chi1", "chi2")
    assert not set(map(tuple, train.values.tolist())) & set(map(tuple, test.values.tolist()))
    for values in (train.values, test.values):
        phi, psi = values[:, 0], values[:, 1]
        helix = ((phi + 65).abs() < 35) & ((psi + 40).abs() < 35)
        sheet = (phi < -45) & (psi > 90)
        assert 0.3 < helix.double().mean() < 0.6
        assert 0.3 < sheet.double().mean() < 0.6


def test_cells_of_each_hour() -> None:
    """Counts and means equal those of the source; the third component increases with time."""
    counts, means = {"0": 69, "24": 74, "48": 79, "72": 49}, []
    for hour, count in counts.items():
        data = read(f"example:cells/{hour}")
        assert (len(data), data.modality.columns) == (count, ("pc1", "pc2", "pc3", "pc4", "pc5"))
        assert data.given == {}
        means.append(data.values.mean(0))
    assert torch.stack(means)[:, 2].tolist() == pytest.approx([-9.9, -1.1, 3.2, 10.5], abs=0.05)
    assert read("example:cells/0").values[0].tolist() == [-15.8586, 24.3948, 10.8143, 10.2946, 2.33]


def test_cells_of_all_hours() -> None:
    train, test = parts("cells", 217, 54)
    assert train.modality.conditions == {"label": ("0", "24", "48", "72")}
    assert (train.given["label"].bincount() + test.given["label"].bincount()).tolist() == [69, 74, 79, 49]
    early = train.given["label"] == 0
    assert train.properties["pseudotime"][early].mean() < train.properties["pseudotime"][~early].mean() - 20
    with refuses(UsageError, argument="part", found="'96'"):
        read("example:cells/96")


def test_hills_equal_matplotlib() -> None:
    """Corners and peak of the grid: 236 to 1,076 m, the north first."""
    from matplotlib.cbook import get_sample_data

    heights = get_sample_data("jacksboro_fault_dem.npz")["elevation"][::3, ::3]
    points = surface()
    assert points.min(0).tolist() == [-5, -5, 0]
    assert points.max(0).tolist() == [5, 5, 2]
    north_west, south_east = points[0], points[-1]
    assert (north_west[:2].tolist(), south_east[:2].tolist()) == ([-5, 5], [5, -5])
    low, span = heights.min(), heights.max() - heights.min()
    assert points[:, 2] * span / 2 + low == pytest.approx(heights.reshape(-1))
    train, test = parts("jacksboro", 13_973, 1_552)
    assert sorted(map(tuple, torch.cat([train.values, test.values]).tolist())) == sorted(map(tuple, points.tolist()))


@pytest.mark.slow
def test_spoken_words_are_held_out_by_sentence() -> None:
    train, test = parts("spoken-words", 162, 12)
    assert len(train.modality.speakers) == 79
    clips, test_speakers = train.values["speaker"].bincount(), test.values["speaker"].unique()
    assert len(test_speakers) == 11
    assert clips[test_speakers].min() >= 6
    for data in (train, test):
        assert torch.equal(data.values["duration"].sum(1), data.given["valid"].sum(1))
        assert torch.equal(data.given["valid"].any(0).sum(), data.given["valid"].sum(1).max())
    minutes = [data.given["valid"].sum().item() / 6000 for data in (train, test)]
    assert minutes == pytest.approx([26.4, 1.4], abs=0.05)
    reloaded = read("example:spoken-words/test", like=train.modality)
    assert all(torch.equal(reloaded.values[name], test.values[name]) for name in test.values)


@pytest.mark.slow
def test_copied_folder_of_spoken_words(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "mine"
    files = copy_example("spoken-words", folder)
    inside = [path for path in folder.rglob("*") if path.is_file()]
    assert len(inside) == files
    assert sum(path.stat().st_size for path in inside) <= 8 * 2**20
    found = load_speech(folder)
    assert len(found.values) == 174
    assert found.dropped == ()
    assert len(found.notes) == 1
    assert {sound.sample_rate for sound in found.values} == {16_000}
    notice = (pathlib.Path(loaders.__file__).parent / "NOTICE.md").read_text()
    assert all(re.search(rf"[\s,]{name}[\s,.;]", notice) for name in found.classes)
    for name, target in (("spoken-words", folder), ("moons", tmp_path / "moons")):
        with refuses(UsageError):
            copy_example(name, target)


def test_alignments_of_spoken_words() -> None:
    """The aligner agrees with the alignments of the example within 20 ms."""
    folder = EXAMPLES["spoken-words"].folder
    assert folder is not None
    ready = read_alignments(folder / "alignments.jsonl")
    aligner = ForcedAligner(Lexicon(cmu_entries(), own_words(folder / "lexicon.txt", ())))
    for name in ("LJ001-0003.opus", "367-130732-0000.opus"):  # the first has a word that is in no dictionary
        sound = read_sound(folder / name).sound
        found = aligner.align(sound, (folder / name).with_suffix(".txt").read_text())
        assert found.fits
        starts = [[spoken.start for word in words for spoken in word.phones] for words in (found.words, ready[name])]
        assert (np.abs(np.subtract(*starts)) <= 2).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("package", ["soundfile", "librosa"])
def test_spoken_words_need_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filters.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with refuses(NotInstalledError):
        read("example:spoken-words")


@pytest.mark.portable
def test_moons_are_portable() -> None:
    """Processors differ by 1e-15; no coordinate is within 1e-10 of the middle between two grid lines."""
    for part, n, step in (("train", MOONS_TRAIN, 0), ("test", MOONS_TEST, 1)):
        exact = sample_moons(n, Rng(0).fold_in("example:moons"), step)
        values = read(f"example:moons/{part}").values
        assert (GRID / 2 - (values - exact).abs()).min() > 1e-10
        assert torch.equal(values, (values / GRID).round() * GRID)
