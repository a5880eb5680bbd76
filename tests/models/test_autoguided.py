"""Guides of other data are refused."""

import json
import pathlib
import shutil

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.models.autoguided import autoguided
from feller.models.pretrained.diffusers_folder import load_diffusers
from tests.errors import refuses
from tests.models.pretrained.tiny import make

LETTERS = tuple("abcdefghij")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("guide") / "dit"
    make("dit").save_pretrained(folder)
    return folder


def test_guide_of_the_same_data(folder: pathlib.Path) -> None:
    model, guide = (load_diffusers(folder, classes=LETTERS) for _ in range(2))
    guided = autoguided(model, guide, 2.0).sample(1, nfe=2, given={"label": "a"}, rng=Rng(0))
    assert torch.equal(guided.values, model.sample(1, nfe=2, given={"label": "a"}, rng=Rng(0)).values)


def test_guide_with_other_classes_is_refused(folder: pathlib.Path) -> None:
    model, guide = (load_diffusers(folder, classes=names) for names in (LETTERS, LETTERS[::-1]))
    with refuses(UsageError, argument="guide"):
        autoguided(model, guide, 2.0)


def test_guide_with_another_encoding_is_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    config = tmp_path / "copy" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 5.0}))
    with refuses(UsageError, argument="guide"):
        autoguided(load_diffusers(folder), load_diffusers(tmp_path / "copy"), 2.0)
