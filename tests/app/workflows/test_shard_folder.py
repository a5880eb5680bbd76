"""Folders of shards may be left by a kill, come from a stranger, and hold what a person laid there."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from feller import open_shards
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.workflows.sampler import Sampler, make_sampler
from feller.app.workflows.shard_folder import _difference
from feller.app.workflows.sharded_samples import write_sharded_samples
from feller.core.errors import InputError, UsageError
from feller.core.output_shards import MANIFEST, MAX_SAMPLES, ShardedSamples
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained

FOLDERS = "{shard}"
"""Behind the name of a folder: shards that are folders."""


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Run:
    model, made = untrained("example:moons", "points")
    return as_run(tmp_path_factory.mktemp("shard-folder") / "run", model, made, "example:moons")


@pytest.fixture(scope="module")
def drawing(moons: Run) -> Sampler:
    return make_sampler(moons, config_of(SampleConfig, nfe=2))


@pytest.fixture
def make(moons: Run, drawing: Sampler) -> Callable[..., ShardedSamples]:
    def one(out: pathlib.Path | None, n: int = 9, *, overwrite: bool = False) -> ShardedSamples:
        return write_sharded_samples(moons, drawing, n, 3, out=None if out is None else str(out), overwrite=overwrite)

    return one


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Return all that lies in a folder, also empty folders."""
    found = (path for path in folder.rglob("*") if path.name != "lock")
    return {str(path.relative_to(folder)): b"" if path.is_dir() else path.read_bytes() for path in found}


def unfinish(folder: pathlib.Path) -> None:
    """Leave a folder as a kill does that comes when all is drawn and noted."""
    done = open_shards(folder)
    (folder / ".shards" / "writing").mkdir(parents=True)
    for number, one in enumerate(done.shards):
        (folder / ".shards" / f"{number}.json").write_text(json.dumps(to_dict(one)))
    text = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**text, "shards": []}))


@pytest.fixture
def victim(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Return a folder of somebody, which stays as it is."""
    place = tmp_path / "victim"
    (place / "writing" / "deep").mkdir(parents=True)
    for name in (".hidden", "0.json", "failed", "writing/thesis", "writing/deep/data"):
        (place / name).write_text(f"my {name}")
    before = content(place)
    yield place
    assert content(place) == before


@pytest.mark.parametrize("name", [".shards", ".shards/writing", ".shards/before"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_lead_to_nobodys_files(tmp_path, make, victim, name, overwrite):
    make(tmp_path / "many")
    unfinish(tmp_path / "many")
    shutil.rmtree(tmp_path / "many" / name, ignore_errors=True)
    (tmp_path / "many" / name).symlink_to(victim)
    with pytest.raises(InputError, match=rf"{name}: is a symbolic link"):
        make(tmp_path / "many", n=12 if overwrite else 9, overwrite=overwrite)


def test_a_run_does_not_lead_elsewhere(moons, tmp_path, make, victim):
    (tmp_path / "empty").mkdir()
    for place in (victim, tmp_path / "empty"):
        (moons.path / "shards").symlink_to(place)
        try:
            with pytest.raises(InputError, match="is a symbolic link"):
                make(None, overwrite=True)
        finally:
            (moons.path / "shards").unlink()
        assert not (place / "lock").exists()
    (tmp_path / "named").symlink_to(tmp_path / "empty")
    assert make(tmp_path / "named").is_finished  # who names a link means it


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
def test_odd_things_are_told_in_a_line_and_stay(tmp_path, make, name, is_folder):
    make(tmp_path / "many")
    unfinish(tmp_path / "many")
    place = tmp_path / "many" / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.mkdir(parents=True) if is_folder else place.write_text("mine")
    before = content(tmp_path / "many")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"(Remove it|Move it elsewhere), or choose another folder"):
            make(tmp_path / "many", n=12 if overwrite else 9, overwrite=overwrite)
    assert content(tmp_path / "many") == before


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"file": 3}', '{"file": "samples-00000.npz"}', "9" * 5000])
def test_damaged_notes_are_none(tmp_path: pathlib.Path, make: Callable[..., ShardedSamples], torn: str) -> None:
    make(tmp_path / "many")
    whole = content(tmp_path / "many")
    unfinish(tmp_path / "many")
    (tmp_path / "many" / ".shards" / "2.json").write_text(torn)
    make(tmp_path / "many")
    assert content(tmp_path / "many") == whole


def test_a_damaged_manifest_is_replaced_where_nothing_else_is_lost(tmp_path, make):
    make(tmp_path / "many")
    whole = content(tmp_path / "many")
    make(tmp_path / "more", n=12)
    for name in ("samples-00000.npz", "samples-00003.npz"):  # of more shards, which the manifest no longer says
        shutil.copy(tmp_path / "more" / name, tmp_path / "many" / name)
    unfinish(tmp_path / "more")
    shutil.copytree(tmp_path / "more" / ".shards", tmp_path / "many" / ".shards")  # notes of who knows what
    (tmp_path / "many" / MANIFEST).write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: is not valid JSON.*--overwrite"):
        make(tmp_path / "many")
    (tmp_path / "many" / "thesis.npz").write_text("mine")
    before = content(tmp_path / "many")
    with pytest.raises(InputError, match=r"thesis\.npz is not a shard"):
        make(tmp_path / "many", overwrite=True)
    assert content(tmp_path / "many") == before
    (tmp_path / "many" / "thesis.npz").unlink()
    make(tmp_path / "many", overwrite=True)
    assert content(tmp_path / "many") == whole


@pytest.mark.parametrize("finished", [True, False])
def test_folders_of_a_person_stay(tmp_path: pathlib.Path, make: Callable[..., ShardedSamples], finished: bool) -> None:
    make(tmp_path / "many")
    if not finished:
        unfinish(tmp_path / "many")
    (tmp_path / "many" / "samples-00001.npz").unlink()
    (tmp_path / "many" / "samples-00001.npz").mkdir()
    (tmp_path / "many" / "samples-00001.npz" / "mine").write_text("thesis")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"is a folder, but a shard of this type is a file\. Move it"):
            make(tmp_path / "many", n=12 if overwrite else 9, overwrite=overwrite)
    assert (tmp_path / "many" / "samples-00001.npz" / "mine").read_text() == "thesis"


def test_files_of_a_person_stay_where_shards_are_folders(tmp_path, make):
    make(tmp_path / "many" / FOLDERS)
    whole = content(tmp_path / "many")
    shutil.rmtree(tmp_path / "many" / "00001")
    (tmp_path / "many" / "00001").write_text("mine")
    with pytest.raises(InputError, match=r"00001: is a file, but a shard of this type is a folder\. Move it"):
        make(tmp_path / "many" / FOLDERS)
    (tmp_path / "many" / "00001").unlink()
    (tmp_path / "many" / "00001").mkdir()  # torn: drawn again
    make(tmp_path / "many" / FOLDERS)
    assert content(tmp_path / "many") == whole


def test_files_that_are_none_of_those_to_replace_stay(tmp_path, make):
    make(tmp_path / "many" / "part.csv")
    (tmp_path / "many" / "samples-00001.npz").write_text("mine")
    before = content(tmp_path / "many")
    with pytest.raises(InputError, match=r"samples-00001\.npz has the name of a shard to be written"):
        make(tmp_path / "many", overwrite=True)
    assert content(tmp_path / "many") == before


@pytest.mark.parametrize("n", [10**9, MAX_SAMPLES])
def test_what_a_manifest_counts_is_not_counted_through(tmp_path, make, n):
    make(tmp_path / "many")
    whole = content(tmp_path / "many")
    text = json.loads((tmp_path / "many" / MANIFEST).read_text())
    (tmp_path / "many" / MANIFEST).write_text(json.dumps({**text, "n": n, "shard": 1, "shards": []}))
    make(tmp_path / "many", overwrite=True)
    assert content(tmp_path / "many") == whole


def test_settings_of_a_manifest_do_not_hide_its_numbers(tmp_path, make):
    make(tmp_path / "many", n=12)
    text = json.loads((tmp_path / "many" / MANIFEST).read_text())
    (tmp_path / "many" / MANIFEST).write_text(json.dumps({**text, "settings": {**text["settings"], "n": 9}}))
    with pytest.raises(UsageError, match="n was 12, is 9"):
        make(tmp_path / "many")


def test_numbers_and_names_are_bounded(tmp_path: pathlib.Path, make: Callable[..., ShardedSamples]) -> None:
    with refuses(UsageError, argument="n"):
        make(tmp_path / "many", n=10**30)
    with refuses(UsageError, argument="out"):
        make(tmp_path / "many" / f"{'a' * 245}.npz")
    assert not (tmp_path / "many").exists()


def test_a_shard_under_another_name_is_told(tmp_path, moons, drawing, make, monkeypatch):
    found = make(tmp_path / "many")
    (tmp_path / "many" / found.file_name(1)).rename(tmp_path / "many" / found.file_name(99))
    heard: list[str] = []
    told = Reporter()
    monkeypatch.setattr(told, "log", heard.append)
    write_sharded_samples(moons, drawing, 9, 3, out=str(tmp_path / "many"), reporter=told)
    said = [line for line in heard if "samples-00099.npz" in line]
    assert len(said) == 1
    assert "may count samples twice" in said[0]
    (tmp_path / "many" / found.file_name(99)).unlink()
    heard.clear()
    write_sharded_samples(moons, drawing, 9, 3, out=str(tmp_path / "many"), reporter=told)
    assert not any("also contains" in line for line in heard)


def test_overwriting_the_same_goes_on(tmp_path: pathlib.Path, make: Callable[..., ShardedSamples]) -> None:
    make(tmp_path / "many")
    unfinish(tmp_path / "many")
    kept = (tmp_path / "many" / "samples-00001.npz").stat().st_mtime_ns
    make(tmp_path / "many", overwrite=True)
    assert (tmp_path / "many" / "samples-00001.npz").stat().st_mtime_ns == kept


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
        def one(*what: Any, **how: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return change(*what, **how)

        return one


@pytest.mark.parametrize("old", ["finished", "unfinished", "other names", "folders", "damaged", "same"])
def test_killed_anywhere_the_same_command_goes_on(tmp_path, make, monkeypatch, old):
    """Also where it replaces others, at each change to the disk."""
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


def test_what_was_asked_for_otherwise_is_named_by_its_field() -> None:
    old = {"n": 5, "shard": 10, "sampling": {"solver": "euler", "calls": 8, "choice": {"is": "Choice", "top_k": None}}}
    new = {"n": 5, "shard": 10, "sampling": {"solver": "euler", "calls": 4, "choice": {"is": "Choice", "top_k": 3}}}
    told = "sampling.calls was 8, is 4; sampling.choice.top_k was None, is 3"
    assert _difference(old, new) == told
    assert _difference({"way": {"is": "A", "x": 1}}, {"way": {"is": "B", "y": 2}}) == "way was A, is B"
