"""Two builds of each wheel are the same bytes."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs feller[release]")
def test_two_builds_are_one(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "release_check.py"), str(tmp_path), "--no-list"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.whl")} == {"feller", "feller_papers"}
