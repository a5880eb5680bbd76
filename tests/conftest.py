"""Documents, and a run of them, that tests of several folders are tried on."""

import pathlib

import pytest

from feller.cli import main

LEARN = ("--size", "tiny", "--steps", "8", "--train.warmup", "1", "--train.lr", "1e-2", "--vectors.steps", "2")
"""Little, but enough to take notice of what stands before."""
OWN = ("--tokenizer", "learned", "--tokenizer.steps", "2")
"""A tokeniser that learns, though tiles would do."""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder of pictures with captions, instructions and a memory."""
    out = tmp_path_factory.mktemp("demonstration") / "scenes"
    assert main(["data", "scenes", "-n", "40", "--longest", "16", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def documents(scenes: pathlib.Path) -> pathlib.Path:
    """Return a run of pictures with captions."""
    run = scenes.parent / "documents"
    assert main(["fit", str(scenes / "pairs"), *LEARN, *OWN, "--out", str(run)]) == 0
    return run
