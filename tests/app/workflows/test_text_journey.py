"""From a file of documents to new ones, and back into the evaluation."""

import itertools
import json
import pathlib

import pytest

import feller
from feller.app.workflows.reporting.comparison import evenly_spaced
from tests.app.asked import run

pytestmark = pytest.mark.usefixtures("here")

WORDS = ("alpha beta", "gamma", "delta epsilon", "", "zeta", "eta theta", "iota", "kappa lambda")


def test_labelled_documents_from_file_to_file(capsys):
    lines = [{"text": WORDS[i % 8], "label": "xy"[i % 2]} for i in range(200)]
    pathlib.Path("greek.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("fit", "greek.jsonl", "--size", "tiny", "--steps", 3, "--sampling.nfe", 3, "--out", "r")
    assert run(*words)["bits_per_token"] > 0
    assert "removed 25 empty texts, the first in line 4" in capsys.readouterr().err.replace("\n", " ")
    run("sample", "r", "-n", 20, "--given", "label=x", "--out", "new.jsonl")
    new = [json.loads(line) for line in pathlib.Path("new.jsonl").read_text().splitlines()]
    assert [line["label"] for line in new] == ["x"] * 20
    for form in ("new.csv", "folder"):
        run("sample", "r", "-n", 20, "--out", form)
        assert 0 <= run("evaluate", "r", "--samples", form)["trigram_distance"] <= 1
    assert run("evaluate", "r", "--samples", "greek.jsonl")["trigram_distance"] < 0.2
    run("sample", "r", "-n", 2, "--template", "alpha", "--given", "label=y", "--out", "a.txt")
    assert all(line.startswith("alpha") for line in pathlib.Path("a.txt").read_text().splitlines())


def test_real_windows_of_a_report_do_not_overlap(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("".join(chr(97 + i * i % 23) + chr(97 + i % 25) for i in range(2000)))
    data = feller.read(str(file), longest=16)
    texts = data.modality.texts(evenly_spaced(data, 24).values)
    assert len(texts) == 24
    assert all(a[8:] not in b for a, b in itertools.pairwise(texts))
