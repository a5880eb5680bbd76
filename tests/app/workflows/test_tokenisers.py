"""From pictures to a run that writes them as codes: what it is judged by, what it is not for, who may begin with it."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from feller.app.cli import main
from feller.app.workflows.private import plan_dp_sgd
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.networks.codebook.learned_image_tokenizer import load_image_tokenizer

FIT = ["fit", "example:digits", "--size", "tiny"]
PRIVATE = ["--epsilon", "8", "--unsafe-seed", "1", "--steps", "2"]


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a run with codes that need no learning."""
    run = tmp_path_factory.mktemp("tokeniser") / "run"
    assert main([*FIT, "--recipe", "image-tokenizer", "--steps", "150", "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a run with 32 codes that follow the data."""
    run = tmp_path_factory.mktemp("following") / "run"
    words = ["--recipe", "image-tokenizer-vq", "--architecture.quantizer.num-codes", "32", "--steps", "120"]
    assert main([*FIT, *words, "--out", str(run)]) == 0
    return run


def test_it_is_judged_beside_pictures_that_are_shrunk(
    tokeniser: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tokeniser), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["reconstruction_mse"] < 0.5 * numbers["reconstruction_mse_shrunk"]
    assert numbers["psnr"] > numbers["psnr_shrunk"] + 3
    assert 0.5 < numbers["codebook_use"] <= 1
    assert 50 < numbers["codebook_perplexity"] < 256
    assert (numbers["codes"], numbers["codes_per_picture"], numbers["steps"]) == (256, 16, 150)
    assert numbers["compared_with"] == "held-out data"
    record = json.loads((tokeniser / "report.json").read_text())
    assert record["verdict"].startswith("Undertrained") == bool(record["sketch"])
    assert "--recipe image-tokenizer" in record["command"]
    assert not any("sample" in command for command, _ in record["next_steps"])
    page = (tokeniser / "report.html").read_text()
    assert "<h2>Reconstructions</h2>" in page
    assert "<h2>Samples</h2>" not in page
    assert not (tokeniser / "preview.png").exists()


def test_codes_that_follow_are_judged_alike(following: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(following), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["codes"] == 32
    assert numbers["reconstruction_mse"] < numbers["reconstruction_mse_shrunk"]
    assert numbers["codebook_use"] > 0.5


def test_other_pictures_have_a_page_of_their_own(
    tokeniser: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures without labels; those with three of them are shown as they are."""
    data = read("example:digits/test")
    np.savez(tmp_path / "other.npz", samples=data.values[:3, 0].numpy(), levels=np.array(16))
    assert main(["evaluate", str(tokeniser), "--data", str(tmp_path / "other.npz"), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["compared_with"] == str(tmp_path / "other.npz")
    assert numbers["codebook_use"] <= 48 / 256
    assert (tokeniser / "report-other-npz.html").is_file()
    large = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "rgb.npz", samples=large)
    assert main(["evaluate", str(tokeniser), "--data", str(tmp_path / "rgb.npz")]) == 1
    assert "expected images of 8 x 8 x 1" in capsys.readouterr().err


def test_it_draws_nothing(tokeniser: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says so, and what it is for."""
    for words in (
        ["sample", "-n", "1"],
        ["steer", "-n", "1", "--reward", "ink"],
        ["tune", "--reward", "ink", "--steps", "1", "--out", str(tmp_path / "t")],
        ["evaluate", "--samples", "x.npz"],
        ["audit"],
    ):
        assert main([words[0], str(tokeniser), *words[1:]]) == 2
        told = capsys.readouterr().err.splitlines()
        assert [line for line in told if line.startswith("feller:")] == [told[-1]]
    assert not (tmp_path / "t").exists()


def test_only_a_tokeniser_begins_with_one(
    tokeniser: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--steps", "1", "--out", str(tmp_path / "run")]
    for recipe in ("images", "distil", "levels-mask"):
        assert main([*FIT, "--recipe", recipe, "--start-from", str(tokeniser), *out]) == 2
        assert not (tmp_path / "run").exists()
    assert main([*FIT, "--recipe", "image-tokenizer", "--start-from", str(tokeniser), *out, "--json"]) == 0
    assert last(capsys)["reconstruction_mse"] < 0.02  # one step at a tiny rate leaves it what it was


def test_bad_cells_are_refused_before_anything_is_written(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*FIT, "--recipe", "image-tokenizer", "--out", str(tmp_path / "run")]
    wrong = [
        (["--architecture.factor", "16"], "16 x 16"),
        (["--architecture.factor", "3"], "found 3"),
        (["--architecture.quantizer.levels", "5", "2"], "(5, 2)"),
        (["--longest", "7"], "7 x 7"),
        (["--target", "label"], "regressor"),
    ]
    for more, named in wrong:
        capsys.readouterr()
        assert main([*words, *more]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("feller: ")]
        assert len(said) == 1
        assert named in said[0]
    assert not (tmp_path / "run" / "model.json").exists()


def test_codes_of_a_run_are_those_of_documents(tokeniser: pathlib.Path) -> None:
    """Levels from 0 to 255 in the place of 16: white is white."""
    model = load_model(open_run(tokeniser))
    kind: Any = model.spec.modality
    settings: Any = model.spec.architecture
    codes = load_image_tokenizer(settings, kind.shape, model.network.state_dict())
    values = read("example:digits/test").values[:20]
    network: Any = model.network.eval()
    written = network.encode(kind.encode(values))
    bright = (values.double() * 255 / 16).round().byte()
    agree = (codes.encode(bright) == written).double().mean().item()
    assert agree > 0.95  # rounding to bytes moves few features over a border
    error = ((codes.decode(written).double() - bright) / 255).square().mean()
    assert error < 0.02


def test_rows_that_look_at_each_other_are_refused_in_private(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    out = ["--out", str(tmp_path / "run")]
    assert main([*FIT, "--recipe", "image-tokenizer-vq", *PRIVATE, *out]) == 2
    assert "private training does not support a codebook" in capsys.readouterr().err
    monkeypatch.setattr(plan_dp_sgd, "calibrate", lambda *words: 0.9)
    assert main([*FIT, "--recipe", "image-tokenizer", *PRIVATE, *out, "--json"]) == 0
    numbers = last(capsys)
    assert 0 < numbers["epsilon"] < 8
    assert numbers["reconstruction_mse"] > 0
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert [cost["label"] for cost in ledger["events"]] == ["training"]  # labels are no part of it, and cost nothing
    assert json.loads((tmp_path / "run" / "report.json").read_text())["promise"]
