"""From a file of documents to new ones, and back into the evaluation."""

import itertools
import json
import pathlib

import pytest

import feller
from feller.app.cli import main
from feller.app.workflows.reporting.comparison import evenly_spaced

pytestmark = pytest.mark.usefixtures("here")

WORDS = ("alpha beta", "gamma", "delta epsilon", "", "zeta", "eta theta", "iota", "kappa lambda")


def test_labelled_documents_from_file_to_file(capsys) -> None:
    lines = [{"text": WORDS[i % 8], "label": "xy"[i % 2]} for i in range(200)]
    pathlib.Path("greek.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["fit", "greek.jsonl", "--size", "tiny", "--steps", "3", "--sampling.nfe", "3", "--out", "r", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    numbers = json.loads(out.splitlines()[-1])
    assert numbers["bits_per_token"] > 0
    assert "removed 25 empty texts, the first in line 4" in err.replace("\n", " ")
    assert main(["sample", "r", "-n", "20", "--given", "label=x", "--out", "new.jsonl"]) == 0
    new = [json.loads(line) for line in pathlib.Path("new.jsonl").read_text().splitlines()]
    assert len(new) == 20
    assert {line["label"] for line in new} == {"x"}
    for form in ("new.csv", "folder"):
        assert main(["sample", "r", "-n", "20", "--out", form]) == 0
        capsys.readouterr()
        assert main(["evaluate", "r", "--samples", form, "--json"]) == 0
        numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert 0 <= numbers["trigram_distance"] <= 1
    assert main(["evaluate", "r", "--samples", "greek.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trigram_distance"] < 0.2
    assert main(["sample", "r", "-n", "2", "--template", "alpha", "--given", "label=y", "--out", "a.txt"]) == 0
    assert all(line.startswith("alpha") for line in pathlib.Path("a.txt").read_text().splitlines())


def test_the_real_windows_that_a_report_shows_do_not_overlap(tmp_path: pathlib.Path, monkeypatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(chr(97 + i * i % 23) + chr(97 + i % 25) for i in range(2000)))
    data = feller.read(str(file), longest=16)
    texts = data.modality.texts(evenly_spaced(data, 24).values)
    assert len(texts) == 24
    assert all(a[8:] not in b for a, b in itertools.pairwise(texts))
