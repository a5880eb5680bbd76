"""Runs that older code wrote, one of every modality and of every command: they open, draw the same, and go on.

`scripts/keep_runs.py` made them, and wrote the commands and what these gave into `expected.json` beside each. This file
uses the command line, `feller.load_model` and JSON alone, so that modules may move.
"""

import functools
import gzip
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import feller
from feller.app.cli import main

pytestmark = pytest.mark.portable

KEPT = pathlib.Path(__file__).parent / "runs"
NAMES = sorted(path.parent.name for path in KEPT.glob("*/expected.json"))
MOST = 64
"""Numbers that are kept of each array of a sample."""
RTOL = 1e-4
REPORTS = ("evaluate", "report_bridge", "report_tuning_without_data")
"""Functions that write reports at the end of a training; reports are tested by the slow test."""
OPEN_ALL = """
import os, sys
import feller
feller.load_model
for folder in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            if folder.startswith("own"):
                from feller.app.cli import main
                code = f"code/{folder.replace('-', '_')}.py"
                os._exit(main(["sample", folder, "-n", "1", "--code", code, "--out", f"{folder}.npz"]))
            feller.load_model(folder)
        except BaseException as error:
            print(folder, error, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("not opened:", folder, flush=True)
"""
"""Opens each run in a process of its own that has imported no more than `feller.load_model` needs."""


def expected_of(name: str) -> dict[str, Any]:
    return json.loads((KEPT / name / "expected.json").read_text())


def copy(place: pathlib.Path, *names: str) -> None:
    """Copy runs, and the data, the code and the key that they need; what is compressed is unpacked."""
    for name in ("data", "code", "home", *names):
        shutil.copytree(KEPT / name, place / name)
    for path in [*place.rglob("*.gz")]:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


@pytest.fixture(params=NAMES)
def kept(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, Any]]:
    """Return the name of a run that lies in the working folder, and what is expected of it."""
    expected = expected_of(request.param)
    copy(tmp_path, request.param, *expected["needs"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", "home")
    return request.param, expected


@functools.cache
def imported(command: str) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])


def without_reports(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Replace what writes reports, in whichever modules it is used."""
    imported(command)
    _ = feller.fit
    replaced = 0
    for module in [*sys.modules.values()]:
        for function in REPORTS:
            if isinstance(getattr(module, function, None), types.FunctionType) and module.__name__.startswith(
                "feller."
            ):
                monkeypatch.setattr(module, function, lambda *rest, **others: {})
                replaced += 1
    assert replaced


def drawn(path: pathlib.Path) -> Any:
    """Return what is compared of a file of samples."""
    if path.suffix != ".npz":
        return path.read_text().splitlines()
    with np.load(path) as file:
        return {key: [np.ravel(row)[:MOST].tolist() for row in np.atleast_1d(file[key])] for key in sorted(file.files)}


def numbers_of(path: pathlib.Path) -> list[bytes]:
    """Return the weights of a file, without their names, which a run that goes on brings up to date."""
    return sorted(each.tobytes() for each in load_file(path).values())


def same(one: Any, other: Any, scale: float) -> bool:
    """Tell whether two rows hold the same, numbers up to rounding."""
    if len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(
        math.isclose(a, b, rel_tol=RTOL, abs_tol=RTOL * scale) if isinstance(a, float) else a == b for a, b in pairs
    )


def may_differ(found: dict[str, list[list[Any]]]) -> int:
    """Return how many samples may differ: one, where parts of samples are chosen among a few, and not computed."""
    return any(isinstance(a, int) for key, rows in found.items() if key != "labels" for row in rows for a in row)


def test_runs_open_in_a_fresh_process(tmp_path: pathlib.Path) -> None:
    """Records name classes, which are found only if opening a run imports them."""
    copy(tmp_path, *NAMES)
    names = [name for name in NAMES if not name.startswith("imported")]  # the next test gives these their code
    words = [sys.executable, "-c", OPEN_ALL, *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_samples_of_kept_runs(kept: tuple[str, dict[str, Any]]) -> None:
    """A sample is computed from its own random numbers, which are the same everywhere.

    On another processor sums are rounded otherwise, by about 1e-6. A symbol becomes another only where its random
    number lies that near to a border, and then all of its sample may differ. So one sample of a run with symbols may,
    which happens to about one in a thousand runs. Numbers that are computed must agree in all samples.
    """
    name, expected = kept
    if not any("--code" in expected.get(command, []) for command in ("draw", "evaluate")):
        assert sum(part.numel() for part in feller.load_model(name).network.state_dict().values()) > 0
    if "draw" not in expected:
        return
    assert main(expected["draw"]) == 0
    found, wanted = drawn(pathlib.Path(expected["draw"][-1])), expected["drawn"]
    if not isinstance(wanted, dict):
        wrong = sum(map(str.__ne__, found, wanted))
        assert (len(found), wrong <= 1) == (len(wanted), True), found
        return
    assert {key: len(rows) for key, rows in found.items()} == {key: len(rows) for key, rows in wanted.items()}
    differ = set()
    for key, rows in wanted.items():
        scale = max((abs(a) for row in rows for a in row if isinstance(a, float)), default=1.0)
        differ |= {i for i, row in enumerate(rows) if not same(found[key][i], row, scale)}
    assert len(differ) <= may_differ(wanted), {key: [found[key][i] for i in differ] for key in found}


@pytest.mark.parametrize("kept", [name for name in NAMES if "resume" in expected_of(name)], indirect=True)
def test_resume_of_kept_runs(kept: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    name, expected = kept
    words = expected["resume"]
    before = numbers_of(pathlib.Path(name, "weights.safetensors"))
    without_reports(monkeypatch, words[0])
    assert main(words) == 0
    counters = json.loads(pathlib.Path(name, "state.json").read_text())
    assert {key: counters[key] for key in expected["counters"]} == expected["counters"]
    trains = any(word in ("--steps", "--rounds") for word in words)
    assert (numbers_of(pathlib.Path(name, "weights.safetensors")) != before) == trains


@pytest.mark.parametrize("kept", [name for name in NAMES if "refused" in expected_of(name)], indirect=True)
def test_resume_with_changed_code(kept: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    _, expected = kept
    assert main(expected["refused"]) == 1
    assert ".py" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [name for name in NAMES if "evaluate" in expected_of(name)], indirect=True)
def test_evaluate_kept_runs(kept: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    _, expected = kept
    assert main(expected["evaluate"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {*expected["numbers"]} <= found.keys()  # names of numbers stay; others may come
    for key, value in expected.get("fixed", {}).items():
        assert found[key] == pytest.approx(value, rel=1e-2, abs=1e-3), key


def test_kept_runs_have_no_absolute_paths() -> None:
    for path in KEPT.rglob("*"):
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert not re.search(rb'"(/[A-Za-z][^"\s]*/|[A-Za-z]:\\\\)[^"]*"', content), path


@pytest.mark.parametrize(
    ("file", "kind", "words"),
    [
        ("model.json", "Affine", ["sample", "points", "-n", "1", "--out", "s.npz"]),
        ("recipe.json", "Matching", ["fit", "--resume", "--out", "points"]),
    ],
)
def test_unknown_classes_name_their_file(
    file: str,
    kind: str,
    words: list[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy(tmp_path, "points")
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "points" / file
    assert f'"is": "{kind}"' in record.read_text()
    record.write_text(record.read_text().replace(f'"is": "{kind}"', '"is": "KindOfBefore"'))
    assert main(words) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert file in said
    assert "'KindOfBefore'" in said
