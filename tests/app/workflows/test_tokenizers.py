"""Image tokenizers: metrics, refused uses, starts, and private training."""

import json
from typing import Any

import numpy as np
import pytest

from feller.app.workflows.private import plan_dp_sgd
from feller.core.errors import InputError
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.networks.codebook.learned_image_tokenizer import load_image_tokenizer
from tests.app.asked import refuse, run

FIT = ("fit", "example:digits", "--size", "tiny", "--recipe")
PRIVATE = ("--epsilon", 8, "--unsafe-seed", 1, "--steps", 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Return a run with a fixed codebook."""
    folder = tmp_path_factory.mktemp("tokenizer") / "run"
    run(*FIT, "image-tokenizer", "--steps", 150, "--out", folder)
    return folder


def test_reconstructions_are_compared_with_downsampled_images(tokenizer):
    numbers = run("evaluate", tokenizer)
    assert numbers["reconstruction_mse"] < 0.5 * numbers["reconstruction_mse_shrunk"]
    assert numbers["psnr"] > numbers["psnr_shrunk"] + 3
    assert 0.5 < numbers["codebook_use"] <= 1
    assert 50 < numbers["codebook_perplexity"] < 256
    assert (numbers["codes"], numbers["codes_per_picture"], numbers["steps"]) == (256, 16, 150)
    assert numbers["compared_with"] == "held-out data"
    record = json.loads((tokenizer / "report.json").read_text())
    assert record["verdict"].startswith("Undertrained") == bool(record["sketch"])
    assert "--recipe image-tokenizer" in record["command"]
    assert not any("sample" in command for command, _ in record["next_steps"])
    page = (tokenizer / "report.html").read_text()
    assert "<h2>Reconstructions</h2>" in page
    assert "<h2>Samples</h2>" not in page
    assert not (tokenizer / "preview.png").exists()


def test_learned_codebook(tmp_path):
    words = ("--architecture.quantizer.num-codes", 32, "--steps", 120, "--out", tmp_path / "run")
    numbers = run(*FIT, "image-tokenizer-vq", *words)
    assert numbers["codes"] == 32
    assert numbers["reconstruction_mse"] < numbers["reconstruction_mse_shrunk"]
    assert numbers["codebook_use"] > 0.5


def test_report_of_other_images(tokenizer, tmp_path):
    """Without labels; images of another shape are refused."""
    data = read("example:digits/test")
    np.savez(tmp_path / "other.npz", samples=data.values[:3, 0].numpy(), levels=np.array(16))
    numbers = run("evaluate", tokenizer, "--data", tmp_path / "other.npz")
    assert numbers["compared_with"] == str(tmp_path / "other.npz")
    assert numbers["codebook_use"] <= 48 / 256
    assert (tokenizer / "report-other-npz.html").is_file()
    np.savez(tmp_path / "rgb.npz", samples=np.zeros((3, 8, 8, 3), dtype=np.uint8))
    fields = {"kind": InputError, "file": str(tmp_path / "rgb.npz"), "expected": "images of 8 x 8 x 1"}
    refuse("evaluate", tokenizer, "--data", tmp_path / "rgb.npz", **fields)


def test_tokenizer_generates_no_samples(tokenizer, tmp_path):
    for command, *words in (
        ("sample", "-n", 1),
        ("steer", "-n", 1, "--reward", "ink"),
        ("tune", "--reward", "ink", "--steps", 1, "--out", tmp_path / "t"),
        ("evaluate", "--samples", "x.npz"),
        ("audit",),
    ):
        refuse(command, tokenizer, *words)
    assert not (tmp_path / "t").exists()


def test_only_tokenizers_start_from_a_tokenizer(tokenizer, tmp_path):
    words = ("--start-from", tokenizer, "--steps", 1, "--out", tmp_path / "run")
    for recipe in ("images", "distil", "levels-mask"):
        refuse(*FIT, recipe, *words)
        assert not (tmp_path / "run").exists()
    assert run(*FIT, "image-tokenizer", *words)["reconstruction_mse"] < 0.02  # one step hardly changes it


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--architecture.factor 16", {}),
        ("--architecture.factor 3", {"found": "3"}),
        ("--architecture.quantizer.levels 5 2", {"found": "(5, 2)"}),
        ("--longest 7", {"found": "7 x 7"}),
        ("--target label", {"argument": "recipe"}),
    ],
)
def test_refused_fits(words, fields, tmp_path):
    refuse(*FIT, "image-tokenizer", "--out", tmp_path / "run", *words.split(), **fields)
    assert not (tmp_path / "run" / "model.json").exists()


def test_codes_of_a_run_are_those_of_documents(tokenizer):
    """Levels from 0 to 255 instead of 16."""
    model = load_model(open_run(tokenizer))
    kind: Any = model.spec.modality
    settings: Any = model.spec.architecture
    codes = load_image_tokenizer(settings, kind.shape, model.network.state_dict())
    values = read("example:digits/test").values[:20]
    network: Any = model.network.eval()
    written = network.encode(kind.encode(values))
    bright = (values.double() * 255 / 16).round().byte()
    assert (codes.encode(bright) == written).double().mean().item() > 0.95  # rounding moves few features over a border
    assert ((codes.decode(written).double() - bright) / 255).square().mean() < 0.02


def test_private_tokenizer(tmp_path, monkeypatch):
    """Codebooks with EMA updates depend on the batch."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    folder = tmp_path / "run"
    refuse(*FIT, "image-tokenizer-vq", *PRIVATE, "--out", folder)
    monkeypatch.setattr(plan_dp_sgd, "calibrate", lambda *words, **options: 0.9)
    numbers = run(*FIT, "image-tokenizer", *PRIVATE, "--out", folder)
    assert 0 < numbers["epsilon"] < 8
    assert numbers["reconstruction_mse"] > 0
    ledger = json.loads((folder / "ledger.json").read_text())
    assert [cost["label"] for cost in ledger["events"]] == ["training"]  # labels are not used, and cost nothing
    assert json.loads((folder / "report.json").read_text())["promise"]
