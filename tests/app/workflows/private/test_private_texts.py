"""Private fits of texts, which start from a language model of public texts."""

import pathlib

import pytest

from feller.core.serialization import read_json
from feller.models.model import load_model
from tests.app.asked import refuse, run
from tests.models.pretrained.tiny_text import SENTENCES, save

pytestmark = pytest.mark.usefixtures("here")
PRIVATE = ("--epsilon", 8, "--steps", 40, "--train.batch-size", 50, "--train.lr", 0.05, "--report", "none")


@pytest.fixture
def base(here: object) -> pathlib.Path:
    """Return a run of a language model of public texts, next to a file of private ones."""
    pathlib.Path("public.txt").write_text("\n".join(SENTENCES[:3] * 4))
    pathlib.Path("private.txt").write_text("\n".join(SENTENCES[3:] * 100))
    run("import", save("gpt2", pathlib.Path("folder")), "--data", "public.txt", "--out", "base")
    return pathlib.Path("base")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 4])
def test_private_fine_tuning(rank: int | None, base: pathlib.Path) -> None:
    low_rank = () if rank is None else ("--rank", rank)
    result = run("fit", "private.txt", "--start-from", base, *PRIVATE, *low_rank, "--out", "tuned")
    assert 7.5 < result["epsilon"] <= 8
    before, after = (load_model(folder).nll(SENTENCES[3:]).mean() for folder in (base, "tuned"))
    assert after < 0.7 * before
    (event,) = read_json(pathlib.Path("tuned/ledger.json"))["events"]
    assert event["steps"] == 40
    assert read_json(pathlib.Path("tuned/model.json"))["modality"] == read_json(base / "model.json")["modality"]


def test_private_texts_need_a_model_of_public_ones(base: pathlib.Path) -> None:
    refuse("fit", "private.txt", *PRIVATE)
    run("import", "folder", "--out", "unknown")
    refuse(
        "fit",
        "private.txt",
        "--start-from",
        "unknown",
        *PRIVATE,
        file="unknown",
        remedy="Record them: `feller import FOLDER --data DATA`",
    )
    refuse("fit", "public.txt", "--start-from", base, *PRIVATE)
    refuse("fit", "public.txt", "--rank", 4, "--steps", 1, argument="rank")


def test_low_rank_updates_are_resumed_exactly(base: pathlib.Path) -> None:
    words = (
        "--start-from",
        base,
        "--rank",
        2,
        "--report",
        "none",
        "--train.lr",
        0.05,
        "--train.lr-schedule",
        "constant",
    )
    words = (*words, "--train.warmup", 0)
    run("fit", "private.txt", *words, "--steps", 6, "--out", "whole")
    run("fit", "private.txt", *words, "--steps", 3, "--out", "parts")
    run("fit", "--resume", "--out", "parts", "--steps", 6, "--report", "none")
    whole, parts, start = (load_model(folder).network.state_dict() for folder in ("whole", "parts", base))
    assert all((whole[name] == parts[name]).all() for name in whole)
    changes = {name: whole[name] - start[name] for name in whole if start[name].ndim > 1}
    assert all(int(change.double().svd().S.gt(1e-5).sum()) <= 2 for change in changes.values())
    assert all((whole[name] == start[name]).all() for name in whole if start[name].ndim == 1)
    assert max(change.abs().max() for change in changes.values()) > 1e-3
