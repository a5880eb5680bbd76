"""Models of symbols whose weights are no numbers say so in the words that those of points use."""

import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.models.model import load_model
from feller.paths.discrete.token_sampler import TokenSampler
from tests.safety.specimen_runs import KINDS, untrained

WORDS = "samples are not finite: the model is damaged or undertrained"


def damaged(run: Run, number: float) -> Run:
    weights, _ = load_tensors(run.ema_weights)
    for weight in weights.values():
        if weight.is_floating_point():
            weight.view(-1)[0] = number
    save_tensors(run.ema_weights, weights)
    return run


@pytest.mark.parametrize(("kind", "number"), [*((kind, float("nan")) for kind in KINDS), ("table", float("inf"))])
def test_weights_that_are_no_numbers(tmp_path: pathlib.Path, kind: str, number: float) -> None:
    run = untrained(kind, tmp_path / "r")
    load_model(run).sample_dataset(2, rng=Rng(0))  # whole, it draws
    with pytest.raises(InputError, match=f"^{WORDS}$"):
        load_model(damaged(run, number)).sample_dataset(2, rng=Rng(0))


def test_the_likeliest_symbol_of_what_are_no_numbers() -> None:
    u = torch.full((2,), 0.5, dtype=torch.float64)
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [3.0, 1.0, 2.0]])
    assert TokenSampler(temperature=0.0)(logits, u).tolist() == [2, 0]
    logits[1, 1] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(InputError, match=WORDS):
            TokenSampler(temperature=temperature)(logits, u)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name"), [("text", "a.txt"), ("table-flow", "a.csv")])
def test_a_fit_that_went_astray(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, recipe: str, name: str
) -> None:
    """One step of an endless rate leaves finite weights, of which nothing can be drawn."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path(name).write_text(KINDS[recipe][1])
    words = ("--recipe", recipe, "--size", "tiny", "--steps", "1", "--train.batch-size", "4", "--train.lr", "1e12")
    assert main(["fit", name, *words, "--out", "r"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"feller: {WORDS}"
    assert main(["evaluate", "r"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"feller: {WORDS}"
