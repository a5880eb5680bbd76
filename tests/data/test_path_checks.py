"""A name at which nothing is, and what may have been meant; one at which a file is, which stays; parts of more."""

import pathlib

import pytest

from feller.app.cli import main
from feller.core.errors import InputError, UsageError
from feller.data.files import sample_folder
from feller.data.path_checks import RUN, require_data, require_exists, require_free
from feller.data.tables.unmodelled_columns import Identifier
from tests.errors import refuses


def test_the_nearest_name_beside_it_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photos").mkdir()
    pathlib.Path("people.csv").write_text("")
    with refuses(InputError, found="none"):
        require_data("photo/")
    with refuses(InputError, found="none"):
        require_exists(pathlib.Path("peple.csv"), "a file")
    for name in ("nowhere", "deep/nowhere"):
        with refuses(InputError, found="none"):
            require_data(name)


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "people.csv"
    require_free(str(file), overwrite=False)
    require_free(None, overwrite=False)
    require_free(str(tmp_path), overwrite=False)  # a folder is known by what is in it
    file.write_text("real rows")
    with pytest.raises(
        UsageError, match=r"people\.csv: file exists\. Replace the file with --overwrite, or name another file"
    ):
        require_free(str(file), overwrite=False)
    require_free(str(file), overwrite=True)


def empty_run(folder: pathlib.Path) -> None:
    (folder / "r").mkdir()
    for name in RUN:
        (folder / "r" / name).write_text("{}")


@pytest.mark.parametrize(
    "words", ["sample", "steer --reward ink", "export --to onnx", "steer --observe x.npy --operator blur=1"]
)
def test_commands_leave_a_file_alone(
    words: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the run is read, which holds nothing."""
    monkeypatch.chdir(tmp_path)
    empty_run(tmp_path)
    place = tmp_path / "mine.onnx"
    place.write_text("mine")
    name, *rest = words.split()
    assert main([name, "r", *rest, "--out", "mine.onnx"]) == 2
    assert "mine.onnx: file exists. Replace the file with --overwrite" in capsys.readouterr().err
    assert place.read_text() == "mine"


def test_export_leaves_what_is_said_beside_its_file_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    empty_run(tmp_path)
    (tmp_path / "net.onnx.json").write_text("mine")
    assert main(["export", "r", "--to", "onnx", "--out", "net.onnx"]) == 2
    assert "net.onnx.json: file exists" in capsys.readouterr().err


def test_files_go_on_where_the_part_before_ended() -> None:
    assert sample_folder.numbered_names(2) == ["00000", "00001"]
    with sample_folder.sample_numbering(7, 12):
        assert sample_folder.numbered_names(2) == ["00007", "00008"]
        assert Identifier("person", "C-{###}").cells(2) == ["C-008", "C-009"]
    with sample_folder.sample_numbering(7, 1_000_000):
        assert sample_folder.numbered_names(1) == ["000007"]
    assert sample_folder.numbered_names(1) == ["00000"]
