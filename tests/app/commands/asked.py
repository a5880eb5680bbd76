"""Commands, asked as in a shell."""

import json

import pytest

from feller.app.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int | str | None, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as end:  # the argument parser ends by itself
        status = end.code
    out, err = capsys.readouterr()
    return status, out, err


def run_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int | str | None, dict, str]:
    status, out, err = run(capsys, *words, "--json")
    return status, json.loads(out.splitlines()[-1]) if out else {}, err
