"""feller data scenes and emoji."""

import json
import pathlib

import pytest

from feller.app.cli import main


def test_scenes_are_written(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["data", "scenes", "--out", str(out), "-n", "40", "--longest", "16", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["pairs"], said["pairs-held-out"], said["creatures"]) == (40, 4, 5)
    assert sorted(path.name for path in out.iterdir()) == [
        "instructions",
        "instructions-held-out",
        "memory",
        "overview.png",
        "pairs",
        "pairs-held-out",
        "tail",
    ]
    assert len(list((out / "pairs").glob("*.png"))) == len(list((out / "pairs").glob("*.txt"))) == 40
    lines = [json.loads(line) for line in (out / "instructions" / "documents.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    named = [item["image"] for line in lines for item in line["document"] if isinstance(item, dict) and "image" in item]
    assert sorted(named) == sorted(f"pictures/{path.name}" for path in (out / "instructions" / "pictures").iterdir())
    assert main(["data", "scenes", "--out", str(out)]) == 1
    assert "not empty; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["scenes", "-n", "5"], 2, "20 pairs or more, got 5"),
        (["scenes", "--longest", "20"], 2, "a side of 16, 32, 48"),
        (["scenes", "example:moons"], 2, "feller data scenes has no use for a second place"),
        (["scenes", "--space", "sphere"], 2, "feller data scenes has no use for --space"),
        (["emoji"], 2, "feller data emoji node_modules"),
        (["emoji", "nowhere"], 1, "expected a file or a folder at nowhere, found none"),
        (["emoji", "."], 1, "emoji-datasource-twitter/emoji.json cannot be read"),
        (["digits", "--seed", "1"], 2, "belongs to `feller data scenes"),
    ],
)
def test_wrong_use(
    words: list[str],
    status: int,
    said: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == status
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
