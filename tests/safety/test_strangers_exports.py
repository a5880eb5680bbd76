"""Exports of untrusted runs."""

import errno
import json
import os
import pathlib
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from feller.app.config import ExportConfig
from feller.app.workflows.export import export
from feller.app.workflows.hugging_face import TEMP_PREFIX
from feller.core.errors import InputError
from feller.core.run_folder import Run
from tests.errors import refuses
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

HOSTILE = "a\n\n# big <img src=x onerror=alert(1)> [link](http://a.b) | more `code` https://a.b \x1b[2J\udcff"


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    return copied(tmp_path / "r")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["average.safetensors", "tokenizer.safetensors", "state.json", "recipe.json"])
def test_links_in_a_run(run: Run, tmp_path: pathlib.Path, name: str) -> None:
    file, mine = run.path / name, tmp_path / "mine"
    mine.write_bytes(file.read_bytes() if file.exists() else b"secret")
    file.unlink(missing_ok=True)
    file.symlink_to(mine)
    with refuses(InputError, file=str(file)):
        export(run, ExportConfig(to="huggingface"))
    assert contents(run.path / "huggingface") == {}


def test_invalid_safetensors_are_not_copied(run: Run) -> None:
    file = run.aux_weights("tokenizer")
    file.write_bytes(b"secret")
    with refuses(InputError, file=str(file)):
        export(run, ExportConfig(to="huggingface"))
    file.unlink()
    os.mkfifo(file)
    with refuses(InputError, file=str(file), found="a folder, a pipe or a device"):
        export(run, ExportConfig(to="huggingface"))


def test_links_in_an_earlier_export_are_replaced(run: Run, tmp_path: pathlib.Path) -> None:
    mine, folder = tmp_path / "mine", run.path / "huggingface"
    mine.write_text("mine")
    folder.mkdir()
    (folder / "config.json").write_text('{"library_name": "feller"}')
    for name in ("model.json", "model.safetensors", "ledger.json", "README.md"):
        (folder / name).symlink_to(mine)
    export(run, ExportConfig(to="huggingface"))
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert "ledger.json" not in contents(folder)


def test_link_in_place_of_the_export_folder(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    (run.path / "huggingface").symlink_to(tmp_path / "other")
    with refuses(InputError, file=str(run.path / "huggingface")):
        export(run, ExportConfig(to="huggingface"))
    assert contents(tmp_path / "other") == {}


@pytest.mark.parametrize("enough", range(6))
def test_full_disk_keeps_the_earlier_export(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    folder, _ = export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub")))
    before = contents(folder)
    (run.path / "report.json").write_text('{"numbers": {"energy": 1.0}}')
    written = 0

    def full(*words: object) -> None:
        nonlocal written
        written += 1
        if written > enough:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("feller.core.serialization.os.fsync", full)
        with refuses(InputError):
            export(run, ExportConfig(to="huggingface", out=str(folder)))
    assert contents(folder) == before
    export(run, ExportConfig(to="huggingface", out=str(folder)))
    assert contents(folder).keys() == before.keys()
    assert contents(folder) != before


def test_leftovers_of_a_killed_export_are_removed(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "hub" / f"{TEMP_PREFIX}0").mkdir(parents=True)
    (tmp_path / "hub" / f"{TEMP_PREFIX}0" / "model.safetensors").write_bytes(b"half")
    folder, _ = export(run, ExportConfig(to="huggingface", out=str(tmp_path / "hub")))
    (folder / ".gitattributes").write_text("of the user")
    export(run, ExportConfig(to="huggingface", out=str(folder)))
    assert not [name for name in contents(folder) if name.startswith(TEMP_PREFIX)]
    assert ".gitattributes" in contents(folder)


def deep(path: pathlib.Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("make", [deep, os.mkfifo, lambda path: path.write_text("[]")])
def test_foreign_config_is_refused(run: Run, make: Callable[[pathlib.Path], object]) -> None:
    (run.path / "huggingface").mkdir()
    make(run.path / "huggingface" / "config.json")
    with refuses(InputError, file=str(run.path / "huggingface")):
        export(run, ExportConfig(to="huggingface"))


def test_markup_in_a_run_is_escaped(run: Run) -> None:
    record = json.loads(run.recipe.read_text())
    record["asked"]["data"] = HOSTILE
    run.recipe.write_text(json.dumps(record))
    numbers = {HOSTILE: 1.0, "steps": "x", "compared_with": HOSTILE}
    told = {"numbers": numbers, "explanations": {HOSTILE: HOSTILE}, "verdict": HOSTILE}
    (run.path / "report.json").write_text(json.dumps(told))
    folder, _ = export(run, ExportConfig(to="huggingface"))
    text = (folder / "README.md").read_text().split("---\n", 2)[2]
    assert "\x1b" not in text
    shown = MarkdownIt("commonmark").enable("table").render(text)
    assert not re.search("<(img|a) ", shown)
    assert re.findall("<h[1-6]>([a-zA-Z ]*)", shown)[1:] == ["Data", "Evaluation", "Use", "Citation"]
    assert shown.count("<h1>") == 1
    assert shown.count("<td") == 3
    assert "https://a.b" not in re.sub("`[^`]*`", "", text)  # which some pages turn into links
