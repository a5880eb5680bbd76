"""Checks of input and output paths, and numbering of samples."""

import pathlib

import pytest

from feller.app.cli import main
from feller.core.errors import InputError, UsageError
from feller.data.files import sample_folder
from feller.data.path_checks import RUN, require_data, require_exists, require_free
from feller.data.tables.unmodelled_columns import Identifier
from tests.errors import refuses


def test_missing_paths_suggest_the_nearest_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photos").mkdir()
    pathlib.Path("people.csv").write_text("")
    for name, nearest in (("photo/", "photos"), ("nowhere", ""), ("deep/nowhere", "")):
        with refuses(InputError, found="none") as error:
            require_data(name)
        assert nearest in str(error.value.remedy)
    with refuses(InputError, found="none") as error:
        require_exists(pathlib.Path("peple.csv"), "a file")
    assert "people.csv" in str(error.value.remedy)


def test_a_misspelt_prefix_of_examples_is_corrected() -> None:
    for source in ("exampel:digits", "exampel:digits/test"):
        with refuses(InputError, argument="data", found="'exampel:digits'") as error:
            require_data(source)
        assert "example:digits" in str(error.value.remedy)


def test_existing_files_are_replaced_only_with_overwrite(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "people.csv"
    require_free(str(file), overwrite=False)
    require_free(None, overwrite=False)
    require_free(str(tmp_path), overwrite=False)  # folders are checked by their content
    file.write_text("real rows")
    with refuses(UsageError, file=str(file)):
        require_free(str(file), overwrite=False)
    require_free(str(file), overwrite=True)


def empty_run(folder: pathlib.Path) -> None:
    (folder / "r").mkdir()
    for name in RUN:
        (folder / "r" / name).write_text("{}")


@pytest.mark.parametrize(
    ("command", "existing"),
    [
        ("sample", "net.onnx"),
        ("steer --reward ink", "net.onnx"),
        ("steer --observe x.npy --operator blur=1", "net.onnx"),
        ("export --to onnx", "net.onnx"),
        ("export --to onnx", "net.onnx.json"),
    ],
)
def test_commands_do_not_replace_files(
    command: str, existing: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The check precedes reading the run, which is empty here."""
    monkeypatch.chdir(tmp_path)
    empty_run(tmp_path)
    (tmp_path / existing).write_text("mine")
    name, *options = command.split()
    assert main([name, "r", *options, "--out", "net.onnx"]) == 2
    assert f"{existing}: " in capsys.readouterr().err
    assert (tmp_path / existing).read_text() == "mine"


def test_sample_numbering_continues() -> None:
    assert sample_folder.numbered_names(2) == ["00000", "00001"]
    with sample_folder.sample_numbering(7, 12):
        assert sample_folder.numbered_names(2) == ["00007", "00008"]
        assert Identifier("person", "C-{###}").cells(2) == ["C-008", "C-009"]
    with sample_folder.sample_numbering(7, 1_000_000):
        assert sample_folder.numbered_names(1) == ["000007"]
    assert sample_folder.numbered_names(1) == ["00000"]
