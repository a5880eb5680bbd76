"""Folders of shards that are left by a kill, untrusted, or contain other files."""

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from feller import open_shards
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.workflows.sampler import make_sampler
from feller.app.workflows.shard_folder import _difference
from feller.app.workflows.sharded_samples import write_sharded_samples
from feller.core.errors import InputError, UsageError
from feller.core.output_shards import MANIFEST, MAX_SAMPLES
from feller.core.serialization import to_dict
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained

FOLDERS = "{shard}"
"""File name of shards that are folders."""


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    model, made = untrained("example:moons", "points")
    return as_run(tmp_path_factory.mktemp("shard-folder") / "run", model, made, "example:moons")


@pytest.fixture(scope="module")
def make(moons):
    """Return a function that writes samples in shards of three."""
    sampler = make_sampler(moons, config_of(SampleConfig, nfe=2))

    def write(out, n=9, **how):
        return write_sharded_samples(moons, sampler, n, 3, out=None if out is None else str(out), **how)

    return write


@pytest.fixture
def many(tmp_path, make):
    """Return a folder of three shards."""
    make(tmp_path / "many")
    return tmp_path / "many"


def content(folder):
    """Return all files and folders."""
    found = (path for path in folder.rglob("*") if path.name != "lock")
    return {str(path.relative_to(folder)): b"" if path.is_dir() else path.read_bytes() for path in found}


def unfinish(folder):
    """Leave a folder as a kill does after all samples are written."""
    done = open_shards(folder)
    (folder / ".shards" / "writing").mkdir(parents=True)
    for number, one in enumerate(done.shards):
        (folder / ".shards" / f"{number}.json").write_text(json.dumps(to_dict(one)))
    text = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**text, "shards": []}))


def refuse(make, folder, **fields):
    """Check that samples are refused by their error, with and without --overwrite, and change nothing."""
    before = content(folder)
    for overwrite in (False, True):
        with refuses(InputError, **fields):
            make(folder, n=12 if overwrite else 9, overwrite=overwrite)
    assert content(folder) == before


@pytest.fixture
def victim(tmp_path):
    """Return a folder of another person, which may not change."""
    place = tmp_path / "victim"
    (place / "writing" / "deep").mkdir(parents=True)
    for name in (".hidden", "0.json", "failed", "writing/thesis", "writing/deep/data"):
        (place / name).write_text(f"my {name}")
    before = content(place)
    yield place
    assert content(place) == before


@pytest.mark.parametrize("name", [".shards", ".shards/writing", ".shards/before"])
def test_links_are_not_followed(many, make, victim, name):
    unfinish(many)
    shutil.rmtree(many / name, ignore_errors=True)
    (many / name).symlink_to(victim)
    refuse(make, many, file=str(many / name))


def test_link_to_the_shards_of_a_run(moons, tmp_path, make, victim):
    (tmp_path / "empty").mkdir()
    for place in (victim, tmp_path / "empty"):
        (moons.path / "shards").symlink_to(place)
        try:
            with refuses(InputError, file=str(moons.path / "shards")):
                make(None, overwrite=True)
        finally:
            (moons.path / "shards").unlink()
        assert not (place / "lock").exists()
    (tmp_path / "named").symlink_to(tmp_path / "empty")
    assert make(tmp_path / "named").is_finished  # a link that is named by the user


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        (".shards", False),
        (".shards/writing", False),
        (".shards/0.json", True),
        (".shards/failed", True),
        (".shards/.0.json.abcdefgh", True),
        (".shards/thesis.txt", False),
        (".shards/before/thesis", True),
        (MANIFEST, True),
    ],
)
def test_unexpected_files_and_folders_are_kept(many, make, name, is_folder):
    unfinish(many)
    place = many / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.mkdir(parents=True) if is_folder else place.write_text("mine")
    refuse(make, many, file=str(place))


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"file": 3}', '{"file": "samples-00000.npz"}', "9" * 5000])
def test_damaged_record_of_a_shard_is_ignored(many, make, torn):
    whole = content(many)
    unfinish(many)
    (many / ".shards" / "2.json").write_text(torn)
    make(many)
    assert content(many) == whole


def test_damaged_manifest_is_replaced_if_all_files_are_shards(tmp_path, many, make):
    whole = content(many)
    make(tmp_path / "more", n=12)
    for name in ("samples-00000.npz", "samples-00003.npz"):  # of more shards, which the manifest no longer names
        shutil.copy(tmp_path / "more" / name, many / name)
    unfinish(tmp_path / "more")
    shutil.copytree(tmp_path / "more" / ".shards", many / ".shards")
    (many / MANIFEST).write_text("{")
    with refuses(InputError) as caught:
        make(many)
    assert "--overwrite" in caught.value.remedy
    (many / "thesis.npz").write_text("mine")
    before = content(many)
    with refuses(InputError) as caught:
        make(many, overwrite=True)
    assert "thesis.npz" in str(caught.value)
    assert content(many) == before
    (many / "thesis.npz").unlink()
    make(many, overwrite=True)
    assert content(many) == whole


@pytest.mark.parametrize("finished", [True, False])
def test_folders_in_place_of_shards_are_kept(many, make, finished):
    if not finished:
        unfinish(many)
    shard = many / "samples-00001.npz"
    shard.unlink()
    shard.mkdir()
    (shard / "mine").write_text("thesis")
    refuse(make, many, file=str(shard), remedy="Move it elsewhere")


def test_files_in_place_of_shards_are_kept(tmp_path, make):
    many = tmp_path / "many"
    make(many / FOLDERS)
    whole = content(many)
    shutil.rmtree(many / "00001")
    (many / "00001").write_text("mine")
    with refuses(InputError, file=str(many / "00001")):
        make(many / FOLDERS)
    (many / "00001").unlink()
    (many / "00001").mkdir()  # torn: drawn again
    make(many / FOLDERS)
    assert content(many) == whole


def test_files_that_have_the_name_of_a_shard_are_kept(tmp_path, make):
    many = tmp_path / "many"
    make(many / "part.csv")
    (many / "samples-00001.npz").write_text("mine")
    before = content(many)
    with refuses(InputError, remedy="Move it elsewhere"):
        make(many, overwrite=True)
    assert content(many) == before


@pytest.mark.parametrize("n", [10**9, MAX_SAMPLES])
def test_number_of_shards_in_a_manifest_is_not_trusted(many, make, n):
    whole = content(many)
    text = json.loads((many / MANIFEST).read_text())
    (many / MANIFEST).write_text(json.dumps({**text, "n": n, "shard": 1, "shards": []}))
    make(many, overwrite=True)
    assert content(many) == whole


def test_settings_of_a_manifest_do_not_replace_its_numbers(tmp_path, make):
    many = tmp_path / "many"
    make(many, n=12)
    text = json.loads((many / MANIFEST).read_text())
    (many / MANIFEST).write_text(json.dumps({**text, "settings": {**text["settings"], "n": 9}}))
    with refuses(UsageError, file=str(many)) as caught:
        make(many)
    assert "n was 12, is 9" in str(caught.value)


def test_numbers_and_names_are_bounded(tmp_path, make):
    with refuses(UsageError, argument="n"):
        make(tmp_path / "many", n=10**30)
    with refuses(UsageError, argument="out"):
        make(tmp_path / "many" / f"{'a' * 245}.npz")
    assert not (tmp_path / "many").exists()


def test_shard_of_another_number_is_noted(many, make):
    found, heard = open_shards(many), []
    reporter = Reporter()
    reporter.log = heard.append  # pyrefly: ignore
    (many / found.file_name(1)).rename(many / found.file_name(99))
    make(many, reporter=reporter)
    assert len([line for line in heard if "samples-00099.npz" in line]) == 1
    (many / found.file_name(99)).unlink()
    heard.clear()
    make(many, reporter=reporter)
    assert not any("samples-000" in line for line in heard)


def test_overwriting_with_equal_settings_resumes(many, make):
    unfinish(many)
    kept = (many / "samples-00001.npz").stat().st_mtime_ns
    make(many, overwrite=True)
    assert (many / "samples-00001.npz").stat().st_mtime_ns == kept


class Killed(BaseException):
    """Stands for a kill."""


class Killer:
    """Lets a number of changes to the disk happen, and none after them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**9
        monkeypatch.setattr(os, "fsync", lambda handle: None)  # of kills of the machine, and slow
        for name in ("mkdir", "unlink", "rmdir", "replace"):
            monkeypatch.setattr(os, name, self.guarded(getattr(os, name)))

    def guarded(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def one(*what, **how):
            if self.left == 0:
                raise Killed
            self.left -= 1
            return change(*what, **how)

        return one


@pytest.mark.parametrize("old", ["finished", "unfinished", "other names", "folders", "damaged", "same"])
def test_killed_at_any_change_the_same_command_resumes(tmp_path, make, monkeypatch, old):
    """Also where it replaces other shards."""
    make(tmp_path / "whole", n=3)
    whole = content(tmp_path / "whole")
    begun = tmp_path / "begun"
    make(begun / {"other names": "part.csv", "folders": FOLDERS}.get(old, ""), n=3 if old == "same" else 6)
    if old != "finished":
        unfinish(begun)
    if old == "damaged":
        (begun / MANIFEST).write_text("")
    killer, changes = Killer(monkeypatch), 0
    while True:
        shutil.copytree(begun, many := tmp_path / f"many-{changes}")
        killer.left = changes
        try:
            make(many, n=3, overwrite=True)
        except Killed:
            killer.left = 10**9
            make(many, n=3, overwrite=True)
        else:
            break
        assert content(many) == whole, f"killed after {changes} changes"
        changes += 1
    assert content(many) == whole
    assert changes > 10


def test_differing_settings_are_named():
    old = {"n": 5, "shard": 10, "sampling": {"solver": "euler", "calls": 8, "choice": {"is": "Choice", "top_k": None}}}
    new = {"n": 5, "shard": 10, "sampling": {"solver": "euler", "calls": 4, "choice": {"is": "Choice", "top_k": 3}}}
    assert _difference(old, new) == "sampling.calls was 8, is 4; sampling.choice.top_k was None, is 3"
    assert _difference({"way": {"is": "A", "x": 1}}, {"way": {"is": "B", "y": 2}}) == "way was A, is B"
