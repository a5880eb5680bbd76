"""Exports copy no file from outside of the imported folder."""

import pathlib
import shutil

import pytest

from feller.core.errors import InputError, UsageError
from feller.models.model import Model
from feller.models.pretrained.diffusers_folder import load_diffusers
from feller.models.pretrained.export import export_pretrained
from feller.models.pretrained.transformers_export import export_language_model
from feller.models.pretrained.transformers_folder import load_language_model
from tests.errors import refuses
from tests.models.pretrained.tiny import make
from tests.models.pretrained.tiny_text import save


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Snapshot in a cache of the hub."""
    folder = tmp_path / "models--tiny" / "snapshots" / "0123"
    make("ddim").save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder: pathlib.Path) -> Model:
    return load_diffusers(folder)


@pytest.mark.parametrize("name", ["notes.txt", "unet/key.json", "scheduler/scheduler_config.json"])
def test_links_to_other_places_are_refused(
    name: str, folder: pathlib.Path, model: Model, tmp_path: pathlib.Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with refuses(InputError, file=str(folder / name)):
        export_pretrained(model, folder, tmp_path / "out")
    assert not (tmp_path / "out" / name).exists()


def test_links_of_a_cache_are_copied(folder: pathlib.Path, model: Model, tmp_path: pathlib.Path) -> None:
    blobs = folder.parent.parent / "blobs"
    blobs.mkdir()
    index = folder / "model_index.json"
    index.rename(blobs / "4567")
    index.symlink_to(pathlib.Path("../../blobs/4567"))
    export_pretrained(model, folder, tmp_path / "out")
    exported = tmp_path / "out" / "model_index.json"
    assert not exported.is_symlink()
    assert exported.read_bytes() == index.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(blobs, tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere" / "blobs")
    with refuses(InputError, file=str(index)):
        export_pretrained(model, folder, tmp_path / "second")


@pytest.mark.parametrize("inner", [".", "inside"])
def test_exports_into_the_source_are_refused(folder: pathlib.Path, model: Model, inner: str) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    with refuses(UsageError, argument="out"):
        export_pretrained(model, folder, folder / inner)
    assert before == {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_links_of_language_models(tmp_path: pathlib.Path) -> None:
    folder = save("gpt2", tmp_path / "gpt2")
    model = load_language_model(folder)
    with refuses(UsageError, argument="out"):
        export_language_model(model, folder, folder / "inside")
    (tmp_path / "secret").write_text("{}")
    (folder / "vocab.txt").symlink_to(tmp_path / "secret")
    with refuses(InputError, file=str(folder / "vocab.txt")):
        export_language_model(model, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
