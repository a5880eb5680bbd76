"""Untrusted runs and folders execute nothing and write nowhere else."""

import html.parser
import json
import math
import os
import pathlib
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image

from feller.app.cli import main
from feller.app.workflows.run_config import read_fit_record
from feller.core.errors import InputError, UsageError, check_probabilities
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import from_dict
from feller.data.documents.files import write_lines
from feller.data.files import sample_folder
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import ImageItem
from feller.data.tables.modality import Table
from feller.models.model import load_model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import load_spec
from feller.paths.affine import Affine
from feller.paths.time_distributions import LeafTimes
from feller.spaces.euclidean import Euclidean
from feller.spaces.tokens import Tokens
from feller.training.checkpoint import read_counters
from feller.training.objectives.distillation import Distillation
from feller.training.objectives.maximum_likelihood import MaximumLikelihood
from feller.training.objectives.next_token_prediction import NextTokenPrediction
from tests.data.files.test_numpy_files import Bomb
from tests.errors import refuses
from tests.safety.specimen_runs import copied, untrained

pytestmark = pytest.mark.portable

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("file", ["average.safetensors", "weights.safetensors", "state.safetensors"])
def test_pickles_named_safetensors(tmp_path: pathlib.Path, file: str) -> None:
    run, trap = copied(tmp_path / "r"), tmp_path / "sprung"
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Bomb(trap))),
        lambda path: torch.save({"weight": Bomb(trap)}, path),
    ):
        write(run.path / file)
        with refuses(InputError, file=str(run.path / file), found=None):
            load_model(run, file=run.path / file)
        assert not trap.exists()


def test_unknown_classes_in_records(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    content = json.loads(run.model.read_text())
    for name in ("os.system", "feller.core.user_code.load_file", "__import__", "Popen"):
        content["architecture"]["is"] = name
        run.model.write_text(json.dumps(content))
        with refuses(InputError, file=str(run.model)):
            load_model(run)


@pytest.mark.parametrize(
    ("file", "keys", "value", "named"),
    [
        ("model", ("modality", "columns"), ["\ud800", "y"], ["model.json", r"\ud800"]),
        ("model", ("modality", "classes"), ["a", "a"], ["model.json", "label"]),
        ("model", ("drop",), 5, ["model.json", "cond_dropout", "found 5"]),
        ("model", ("drop",), float("nan"), ["model.json", "cond_dropout", "found nan"]),
        ("model", ("version",), ["x"], ["model.json", "`version`", "['x']"]),
        ("recipe", ("asked", "held_out"), -1, ["found -1"]),
        ("recipe", ("asked", "ancestors"), ["x"], ["ancestors[0]", "'x'"]),
        ("recipe", ("recipe", "held_out"), 1e9, ["found 1e+09"]),
        ("recipe", ("recipe", "objective", "drop"), 5, ["objective: cond_dropout", "found 5"]),
        ("recipe", ("recipe", "train", "batch"), 10**12, ["train: batch_size", "1,000,000,000,000"]),
    ],
)
def test_invalid_values_in_records(
    tmp_path: pathlib.Path, file: str, keys: tuple[str, ...], value: object, named: list[str]
) -> None:
    run = copied(tmp_path / "r")
    path = getattr(run, file)
    content = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))
    with refuses(InputError) as caught:
        _all_read(run)
    assert all(word in str(caught.value) for word in named)


def _all_read(run: Run) -> None:
    """Read what a resumed fit reads of its records."""
    load_model(run)
    read_fit_record(run)
    from_dict(Recipe, run.read_record(run.recipe)["recipe"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", 0.5), ("step", -3), ("step", True), ("step", 1e9), ("step", "x"), ("seconds", -1), ("seconds", math.nan)],
)
def test_counters_of_no_training(tmp_path: pathlib.Path, key: str, value: object) -> None:
    run = copied(tmp_path / "r")
    run.progress.write_text(json.dumps(json.loads(run.progress.read_text()) | {key: value}))
    with refuses(InputError, file=str(run.progress), argument=key):
        read_counters(run)


@pytest.mark.parametrize("value", [5.0, -1.0, float("nan")])
@pytest.mark.parametrize(
    "keys",
    [("architecture", "space", "value_probs"), ("space", "value_probs"), ("modality", "marginals")],
    ids="-".join,
)
def test_probabilities_of_tables(tmp_path: pathlib.Path, keys: tuple[str, ...], value: float) -> None:
    run = untrained("table", tmp_path / "r")
    content = inner = json.loads(run.model.read_text())
    for key in keys:
        inner = inner[key]
    modality = load_spec(run).modality
    assert isinstance(modality, Table)
    sizes = [len(column.level_names) for column in modality.schema.modelled]
    inner[:] = [[1 / n] * n for n in sizes]
    run.model.write_text(json.dumps(content))
    load_model(run)
    inner[1][1] = value
    run.model.write_text(json.dumps(content))
    with refuses(InputError, file=str(run.model)) as caught:
        load_model(run)
    assert f"{keys[-1]}[1][1]" in str(caught.value)


@pytest.mark.parametrize("value", [5.0, -1.0, float("nan")])
def test_probabilities_of_classes(value: float) -> None:
    with refuses(UsageError, argument="probs[1]"):
        check_probabilities("probs", (0.5, value))


@pytest.mark.parametrize("value", [5.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["observed_prob", "independent_prob"])
def test_probabilities_of_times(name: str, value: float) -> None:
    with refuses(UsageError, argument=name):
        LeafTimes(**{name: value})


@pytest.mark.parametrize(
    "build",
    [
        lambda p: Distillation(Affine(), Euclidean((2,)), cond_dropout=p),
        lambda p: MaximumLikelihood(Affine(), Euclidean((2,)), cond_dropout=p),
        lambda p: NextTokenPrediction(Tokens(3, (4,)), cond_dropout=p),
    ],
)
@pytest.mark.parametrize("value", [5.0, -1.0, float("nan")])
def test_probabilities_of_dropped_conditions(build: Callable[[float], object], value: float) -> None:
    with refuses(UsageError, argument="cond_dropout"):
        build(value)


def test_surrogate_pairs_in_json(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    content = json.loads(run.model.read_text())
    content["modality"]["columns"] = ["\U0001f600", "y"]
    run.model.write_text(json.dumps(content, ensure_ascii=True))
    assert load_model(run).spec.modality.columns[0] == "\U0001f600"


def test_integer_weights_are_refused(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    for file in (run.ema_weights, run.weights):
        tensors, _ = load_tensors(file)
        save_tensors(file, {name: value.view(torch.int32) for name, value in tensors.items()})
        with refuses(InputError, file=str(file)) as caught:
            load_model(run, file=file)
        assert str(run.model) in str(caught.value)


def test_code_named_by_a_run_is_not_loaded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = copied(tmp_path / "r")
    pathlib.Path("mine.py").write_text("open('sprung', 'w')\n")
    content = json.loads(run.recipe.read_text())
    content["asked"] |= {"recipe": "mine.py:own", "code": "0" * 64}
    run.recipe.write_text(json.dumps(content))
    main(["sample", "r", "-n", "2", "--out", "a.csv"])
    main(["evaluate", "r"])
    main(["fit", "--resume", "--out", "r"])
    assert not pathlib.Path("sprung").exists()


@pytest.mark.parametrize("words", [("evaluate", "run"), ("audit", "run"), ("fit", "--resume", "--out", "run")])
def test_modality_named_by_a_run_is_not_loaded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = copied(tmp_path / "run", 3)
    (tmp_path / "evil.py").write_text("open('pwned', 'w')\nclass X: ...\n")
    record = json.loads(run.recipe.read_text())
    record["config"]["modality"] = "evil.py:X"
    run.recipe.write_text(json.dumps(record))
    assert main([*words]) == 1
    assert not (tmp_path / "pwned").exists()


def test_links_out_of_an_image_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "mine.png")
    Image.new("L", (8, 8)).save(folder / "a.png")
    os.symlink("../mine.png", folder / "b.png")
    found = read(str(folder))
    assert len(found) == 1
    assert len(found.notes) == 1


@pytest.mark.parametrize("name", ["../mine.png", "/etc/hostname", "a/../../mine.png", "\0.png", "x" * 5_000])
def test_documents_with_paths_outside(tmp_path: pathlib.Path, name: str) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "mine.png")
    (folder / "a.jsonl").write_text(json.dumps({"image": name, "text": "x"}))
    with refuses(InputError, file=f"{folder / 'a.jsonl'}: line 1", found=repr(name[:40])):
        read(str(folder / "a.jsonl"))


def test_overview_removes_nothing_outside(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    victim = tmp_path / "00001.png"
    victim.write_bytes(b"mine")
    sample_folder.save_overview(
        Image.new("L", (8, 8)), folder, ["../00001.png", str(victim), "x/../../00001.png", "..png/00001.png"]
    )
    sample_folder.prepare(folder)
    assert victim.is_file()


def test_samples_are_not_written_through_links(tmp_path: pathlib.Path) -> None:
    """Links in the samples of a stranger's run, beside an overview that makes the folder look like ours."""
    folder, mine = tmp_path / "samples", tmp_path / "mine"
    folder.mkdir()
    mine.mkdir()
    (mine / "a.png").write_bytes(b"mine")
    pictures = Images(4, 4, 1, classes=("0", "1"))
    values, given = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), {"label": torch.zeros(2, dtype=torch.long)}
    sample_folder.save_overview(Image.new("L", (8, 8)), folder, [])
    os.symlink("../mine", folder / "0")
    with refuses(InputError, file=str(folder / "0")):
        pictures.write(values, given, folder)
    (folder / "0").unlink()
    (folder / "0").mkdir()
    os.symlink("../../mine/a.png", folder / "0" / "00001.png")  # is replaced, as a link
    pictures.write(values, given, folder)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == {"a.png": b"mine"}
    assert len(read(str(folder))) == 2


def test_pictures_of_documents_are_not_written_through_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "d").mkdir()
    os.symlink("../mine", tmp_path / "d" / "00000.png")
    pictures = torch.zeros(1, 1, 1, 4, 4, dtype=torch.uint8)
    write_lines([[ImageItem(0)]], pictures, [[0]], [""], tmp_path / "d.jsonl", tmp_path / "d")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "d" / "00000.png").is_symlink()


def test_samples_folder_that_is_a_link(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path / "r")
    (tmp_path / "mine").mkdir()
    os.symlink("../mine", run.path / "samples")
    assert main(["sample", str(run.path), "-n", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run.path / "samples") in line
    assert "--out" in line
    assert not any((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("label", ["../../up", "/root", "..", ".", "", "a\0b", "C:\\x", "~", "con/../.."])
def test_class_folder_names(label: str) -> None:
    name = sample_folder.folder_name(label)
    assert "/" not in name
    assert "\0" not in name
    assert name not in ("", ".", "..")
    assert sample_folder.class_name(name) == label or not label


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        if tag in ("script", "iframe", "object", "embed", "base", "form", "link", "meta"):
            self.found.append(f"{tag} {dict(attrs)}")


@pytest.mark.slow
def test_reports_of_hostile_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{i / 9},{i % 7},"{("a", ATTACK)[i % 2]}"\n' for i in range(40))
    pathlib.Path("<b>x.csv").write_text(f'"<script>1</script>",y,label\n{rows}')
    pathlib.Path("plain.csv").write_text("x,y,label\n" + rows.replace(ATTACK, "b"))
    found = []
    for name in ("<b>x.csv", "plain.csv"):
        run = f"r{len(found)}"
        assert main(["fit", name, "--size", "tiny", "--steps", "2", "--sampling.nfe", "2", "--out", run]) == 0
        page = Page()
        page.feed(pathlib.Path(run, "report.html").read_text())
        found.append(page.found)
    assert found[0] == found[1]
    assert "<script>1</script>" not in pathlib.Path("r0", "report.html").read_text()


def test_formulas_in_cells_are_kept(tmp_path: pathlib.Path) -> None:
    """Formulas stay as they are: SECURITY.md says why. What is read again is the same."""
    cells = ["=1+1", "@SUM(A1)", "+2", "-cmd", "plain"] * 5
    (tmp_path / "a.csv").write_text("word,n\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells)))
    data = read(str(tmp_path / "a.csv"))
    data.modality.write(data.values, data.given, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().splitlines()[1].startswith("=1+1,")
    assert replace(read(str(tmp_path / "b.csv")), notes=()).modality.display_name == data.modality.display_name
