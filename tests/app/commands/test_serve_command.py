"""feller serve: what is refused before anything is read or served."""

import pathlib
import socket

import pytest

from feller.app.cli import main

TOKEN = "not-to-be-guessed-1"


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["--host", "0.0.0.0"], 2, "--token"),
        (["--host", "0.0.0.0", "--token", "short"], 2, "16 ASCII characters"),
        (["--port", "70000"], 2, "--port: expected"),
        (["nowhere"], 1, "nowhere: expected a run folder"),
        (["--port", "x"], 2, "--port"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, status, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *words]) == status
    err = capsys.readouterr().err
    assert why in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--reward", "0.5 * gone.py:warm >= 1"], ["--memory", "gone"]])
def test_files_that_are_not_there_are_told_before_a_page_is_promised(words, capsys, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    assert main(["serve", str(tmp_path), *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("feller: gone")
    assert len(err.splitlines()) == 1


def test_several_runs_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "one", "two"]) == 1
    assert "one" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--help"])
    assert stopped.value.code == 0
    assert "[RUN" in capsys.readouterr().out


@pytest.mark.slow
def test_an_address_that_is_taken_is_said(moons: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", str(moons), "--port", port]) == 1
    err = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in err
    assert "Choose another --port" in err
