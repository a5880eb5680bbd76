"""Fits to shards: killed and resumed they end bit for bit as they would, and shards that changed are refused."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.app.workflows.bridges.populations import read_populations
from feller.app.workflows.fitting import run_training
from feller.core.errors import InputError, UsageError
from feller.core.safetensors_io import load_tensors
from feller.data.batches import Prefetcher
from feller.data.shards.tar_index import make_index
from feller.training import callbacks
from tests.data.shards.written import pictures, png, tar
from tests.errors import refuses

FIT = {"size": "tiny", "steps": 6}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    make_index.cache_clear()
    return tmp_path


def weights(run):
    files = [pathlib.Path(run, f"{name}.safetensors") for name in ("weights", "average")]
    return [value for file in files for value in load_tensors(file)[0].values()]


def same(one, other):
    return all(map(torch.equal, weights(one), weights(other)))


def kill_at(step, monkeypatch):
    """Save each step, and die before the batch of one."""
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run_training.Preview, "on_checkpoint", lambda *rest: None)
    usual = Prefetcher.__call__

    def call(self, number, rows):
        if number == step:
            raise GeneratorExit
        return usual(self, number, rows)

    monkeypatch.setattr(Prefetcher, "__call__", call)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_killed_fit_goes_on_bit_for_bit(kind, here):
    if kind == "tar":
        pictures(pathlib.Path("shards"))
    else:
        pathlib.Path("shards").mkdir()
        values = np.random.default_rng(0).normal(size=(90, 2))
        for i in range(3):
            some = pd.DataFrame(values[30 * i : 30 * i + 30], columns=["a", "b"])
            some.to_parquet(f"shards/{i}.parquet", index=False, row_group_size=10)
    feller.fit("shards", out="straight", **FIT)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(4, patch)
        with pytest.raises(GeneratorExit):
            feller.fit("shards", out="killed", **FIT)
    assert not same("straight", "killed")
    make_index.cache_clear()
    feller.fit(out="killed", resume=True)
    assert same("straight", "killed")


def test_a_shard_that_changed_is_refused_on_resume():
    made = pictures(pathlib.Path("shards"))
    feller.fit("shards", out="run", size="tiny", steps=2)
    shard = pathlib.Path("shards/train-002.tar")
    before, old, new = shard.read_bytes(), png(made[21]), png(255 - made[21])
    assert len(old) == len(new)  # another picture of as many bytes, under the same name
    shard.write_bytes(before.replace(old, new))
    with refuses(InputError, remedy="Restore the data"):
        feller.fit(out="run", resume=True, steps=4)
    shard.write_bytes(before)  # the same again, though at another time
    feller.fit(out="run", resume=True, steps=4)


def test_shards_that_are_gone_new_or_changed_are_named():
    pathlib.Path("rows").mkdir()
    for i in range(4):
        pd.DataFrame({"a": [0.5, 1.5, 2.0] * 9, "b": [float(i)] * 27}).to_parquet(f"rows/{i}.parquet", index=False)
    feller.fit("rows", out="run", size="tiny", steps=2)
    pathlib.Path("rows/0.parquet").rename("rows/7.parquet")
    pathlib.Path("rows/3.parquet").unlink()
    pd.DataFrame({"a": [0.5], "b": [1.0]}).to_parquet("rows/1.parquet", index=False)
    with refuses(InputError) as caught:
        feller.fit(out="run", resume=True, steps=4)
    assert "0.parquet, 3.parquet are gone, 7.parquet is new, 1.parquet is changed" in str(caught.value)


def test_the_same_model_as_of_a_folder_in_the_same_order():
    made = pictures(pathlib.Path("shards"))
    pathlib.Path("folder").mkdir()
    for i, pixels in enumerate(made):
        Image.fromarray(pixels).save(f"folder/{i:05d}.png")
    for shard in (0, 1):
        members = [(f"{i}.png", png(made[i])) for i in range(20 * shard, 20 * shard + 20)]
        tar(pathlib.Path(f"plain/{shard}.tar"), members)
    feller.fit("plain", out="of-shards", **FIT)
    feller.fit("folder", out="of-folder", **FIT)
    assert same("of-shards", "of-folder")
    record = json.loads(pathlib.Path("of-shards/recipe.json").read_text())
    assert any("40 examples in 2 shards" in note for note in record["provenance"]["notes"])


def test_what_needs_all_rows_at_once_is_refused():
    pictures(pathlib.Path("shards"))
    with refuses(UsageError):
        feller.fit("shards/train-{000..003}.tar", epsilon=4.0, **FIT)
    with refuses(UsageError, remedy="Give a file"):
        feller.fit("shards", target=("label",), **FIT)
    with refuses(UsageError, remedy="Give a file"):
        read_populations(("shards", "shards"))
