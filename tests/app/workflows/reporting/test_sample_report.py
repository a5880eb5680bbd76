"""Reports say what was judged, beside what, and how to go on; a run keeps its own."""

import json
import pathlib

import numpy as np
import pytest
import torch

from feller.app.modalities.registration import find_recipe, registration_of
from feller.app.workflows.next_steps import condition_examples
from feller.app.workflows.reporting.comparison import SampleComparison, evenly_spaced
from feller.data.images.labelled_images import LabelledImages
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from tests.app.asked import run
from tests.evaluation.report.reader import read as read_page

pytestmark = pytest.mark.usefixtures("here")

TINY = ("--size", "tiny", "--steps", "2", "--sampling.nfe", "2")


def page(file):
    return read_page(pathlib.Path(file).read_text())


def captions(root):
    return [caption.text for caption in root.all("figcaption")]


@pytest.mark.slow
def test_other_samples_have_a_report_of_their_own(capsys):
    run("fit", "example:moons", *TINY, "--out", "r")
    own = pathlib.Path("r/report.html").read_text()
    run("sample", "r", "-n", 60, "--out", "new.npz")
    found = run("evaluate", "r", "--samples", "new.npz", "--data", "example:moons/test")
    assert found["report"] == "r/report-new-npz-moons-test.html"
    assert {"sliced_w", "steps", "seconds"} <= found.keys()
    assert "report: r/report-new-npz-moons-test.html" in capsys.readouterr().err
    assert pathlib.Path("r/report.html").read_text() == own
    root = page("r/report-new-npz-moons-test.html")
    header = root.all("header")[0].text.strip()
    assert header.startswith("Samples in new.npz, compared with example:moons/test")
    assert "Compared: 60 samples in new.npz, with" in header
    assert root.of("command")[0].text == "feller evaluate r --samples new.npz --data example:moons/test"
    assert "Training" not in [title.text for title in root.all("h2")]
    assert captions(root) == ["Samples in new.npz", "Real data in example:moons/test"]
    run("evaluate", "r")
    root = page("r/report.html")
    assert root.of("command")[0].text.startswith("feller fit example:moons")
    assert captions(root)[1] == "Held-out real data"


def test_comparison_with_training_data_is_said(capsys):
    np.save("few.npy", np.random.default_rng(0).standard_normal((12, 2)))
    assert run("fit", "few.npy", *TINY, "--held-out", 0, "--out", "r")["compared_with"] == "training data"
    note = "0 examples are held out, fewer than 50: samples were compared with the training data"
    root, record = page("r/report.html"), json.loads(pathlib.Path("r/report.json").read_text())
    assert captions(root) == ["Samples", "Real data, from the training set"]
    assert record["numbers"]["compared_with"] == "training data"
    assert note in capsys.readouterr().err.replace("\n", " ")
    assert note in root.text


def labelled():
    data = read("example:digits")
    return data.with_modality(LabelledImages(data.modality))


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (read("example:perovskites"), ["element"]),
        (read("example:molecules"), ["element", "atoms"]),
        (read("example:proteins"), ["residue", "structure", "length"]),
        (labelled(), ["label"]),
        (read("example:digits"), ["label"]),
        (read("example:moons"), []),
    ],
)
def test_wishes_can_be_met(data, keys):
    about = find_recipe("auto", data, "tiny")[1].model_spec(data)
    found = dict(wish.split("=") for wish, _ in condition_examples(about, data))
    assert list(found) == keys
    for key, text in found.items():
        if key == "structure":  # a file
            continue
        if key in about.modality.conditionable_leaves:
            value, _ = about.modality.parse_condition(key, text)
            assert len(value) == 1
        else:
            about.modality.class_index(key, text)


@pytest.mark.parametrize("name", ["proteins", "molecules"])
def test_samples_and_real_data_have_one_scale(name):
    """Twice as large, the same examples fill a picture of the same form that the smaller ones do not."""
    data = read(f"example:{name}").subset(torch.arange(4))
    leaf = "atoms" if name == "proteins" else "place"
    large = Dataset({**data.values, leaf: 2 * data.values[leaf]}, data.given, data.modality)
    small, big = map(np.array, registration_of(data.modality).beside(data, large, None))
    assert small.shape == big.shape
    alone = np.array(data.modality.show(data.values, data.given))
    assert (small < 250).mean() < 0.6 * (alone < 250).mean()


def test_points_and_real_data_have_the_same_axes():
    """A set beside itself moved far away is drawn smaller than alone."""
    data = read("example:moons").subset(torch.arange(200))
    far = Dataset(data.values + 50, data.given, data.modality)
    own, other = (np.array(picture) for picture in registration_of(data.modality).beside(data, far, None))
    alone = np.array(data.modality.show(data.values, data.given))
    assert own.shape == other.shape == alone.shape
    blue = [(picture[:, :, 2].astype(int) - picture[:, :, 0] > 60) for picture in (own, alone)]
    assert np.ptp(np.nonzero(blue[0])[1]) < 0.3 * np.ptp(np.nonzero(blue[1])[1])


def test_names_of_reports():
    data = read("example:moons").subset(torch.arange(3))
    for samples, other, name in (
        (None, None, "report"),
        ("a/new.npz", None, "report-new-npz"),
        (None, "example:moons/test", "report-moons-test"),
        ("out/", "a b.csv", "report-out-a-b-csv"),
    ):
        assert SampleComparison(generated=data, train=data, held_out=data, samples=samples, data=other).name == name


def test_classes_are_shown_in_turn_with_their_shares():
    """A page of texts holds 24: of 30 and 60 in two classes, 8 and 16 of them."""
    lines = [f"{word} number {i}" for i in range(30) for word in ("short", "long", "longer")]
    labels = np.array([0 if line.startswith("short") else 1 for line in lines])
    data = text_dataset(RawTexts(object_array(lines), documents=True, labels=labels, classes=("a", "b")))
    shown = evenly_spaced(data, 90)
    assert torch.bincount(shown.given["label"]).tolist() == [8, 16]
    few = evenly_spaced(read("example:digits"), 100).given["label"]
    assert torch.equal(few, few.sort().values)
    assert torch.bincount(few).min() > 5
