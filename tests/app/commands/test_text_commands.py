"""Text and symbols on the command line: flags of sampling, and every wrong input in one line with what to do."""

import json
import os
import pathlib

import numpy as np
import pytest

from feller.app.cli import main
from feller.models.families.elbo import ReversalRates, SamplingRates, tightest_elbo
from feller.paths import Mixture
from feller.spaces.tokens import CategoricalSource
from tests.app.commands.asked import run

pytestmark = pytest.mark.usefixtures("here")

TINY = ("--size", "tiny", "--steps", "2", "--sampling.nfe", "3")
SENTENCES = ("to be, or not to be; ", "the rest is silence. ", "words, words, words: ")
BOOK = "".join(SENTENCES[i * i % 3] for i in range(40))


def fitted(tmp_path_factory, name: str, *words: str) -> pathlib.Path:
    folder = tmp_path_factory.mktemp(name)
    (folder / "book.txt").write_text(BOOK)
    assert main(["fit", str(folder / "book.txt"), "--longest", "24", *TINY, *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return fitted(tmp_path_factory, "masked")


@pytest.fixture(scope="module")
def uniform(tmp_path_factory):
    return fitted(tmp_path_factory, "uniform", "--recipe", "text-uniform")


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return fitted(tmp_path_factory, "writer", "--recipe", "text-autoregressive")


def drawn(capsys, *words) -> list[str]:
    status, _, err = run(capsys, "sample", *words, "-n", 3, "--out", "new.npz", "--overwrite")
    assert status == 0, err
    return np.load("new.npz")["samples"].tolist()


def test_numbers_in_json_have_their_names(masked, capsys) -> None:
    numbers = json.loads((masked / "report.json").read_text())["numbers"]
    assert {"bits_per_token", "trigram_distance", "trigram_floor", "copied", "copied_floor", "steps"} <= numbers.keys()
    status, out, err = run(capsys, "sample", masked, "-n", 2, "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["n"] == 2
    assert "--- 2" in err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masked", "uniform", "writer"])
def test_the_likeliest_is_one(kind: str, capsys, request: pytest.FixtureRequest) -> None:
    """At temperature 0 and with top-k 1 nothing is left to chance but, with a mask or noise, who moves when."""
    folder = request.getfixturevalue(kind)
    assert drawn(capsys, folder, "--temperature", 0) == drawn(capsys, folder, "--temperature", 0)
    cold, first = drawn(capsys, folder, "--temperature", 0), drawn(capsys, folder, "--top-k", 1)
    assert cold == first
    if kind == "writer":
        assert len(set(cold)) == 1
        assert drawn(capsys, folder, "--temperature", 0, "--seed", 5) == cold
    assert drawn(capsys, folder) != cold


@pytest.mark.parametrize("kind", ["masked", "uniform", "writer"])
def test_what_is_known_is_kept(kind: str, capsys, request: pytest.FixtureRequest) -> None:
    for text in drawn(capsys, request.getfixturevalue(kind), "--template", "to be, ___ to be"):
        assert text.startswith("to be, ")
        assert text[10:16] == " to be"
        assert len(text) == 24
        assert "_" not in text


@pytest.mark.parametrize("order", ["confidence", "entropy"])
def test_orders_need_a_mask(order: str, masked, uniform, writer, capsys) -> None:
    assert len(drawn(capsys, masked, "--order", order)) == 3
    for folder, message in ((uniform, "mask source"), (writer, "token after token")):
        status, _, err = run(capsys, "sample", folder, "--order", order)
        assert status == 2
        assert message in err


@pytest.mark.parametrize("kind", ["masked", "uniform", "writer"])
def test_velocities_are_not_followed(kind: str, capsys, request: pytest.FixtureRequest) -> None:
    status, _, err = run(capsys, "sample", request.getfixturevalue(kind), "--solver", "midpoint")
    assert status == 2
    assert "midpoint" in err or "without a solver" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--template", "to be €"], "found '€' (U+20AC) at character 7"),
        (["--template", "to B"], "Write 'b' instead"),
        (["--template", "e" * 25], "has 25 characters"),
        (["--template", "_" * 30], "has 30 characters"),
        (["--temperature", "-1"], ": expected at least 0 and finite; found -1"),
        (["--top-k", "0"], "--top-k: expected at least 1; found 0"),
        (["--top-p", "1.5"], ": expected above 0 and at most 1; found 1.5"),
        (["--order", "confident"], "Did you mean 'confidence'"),
        (["--guidance", "2"], "--guidance: expected a model with conditions"),
        (["--given", "label=sea"], "--given: expected"),
        (["--out", "x.wav"], ".txt, .jsonl, .csv, .npz"),
    ],
)
def test_wrong_samples(masked, capsys, words: list[str], message: str) -> None:
    status, out, err = run(capsys, "sample", masked, *words)
    assert status == 2, err
    assert message in err
    assert "Traceback" not in err
    assert not out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one.txt", b"a" * 500, "one repeated character"),
        ("blank.txt", b"\n\n \n\n", "contains no text"),
        ("empty.txt", b"", "the file is empty"),
        (
            "bad.txt",
            b"abc\xff\xfedef",
            "bad.txt: expected text in UTF-8; found byte 0xff at position 3. Save the file as UTF-8",
        ),
        ("short.txt", b"short", "5 characters, too few for two examples of length 128"),
        ("packed.txt.gz", b"\x1f\x8b\x08not really", "damaged or truncated"),
        ("blank.jsonl", b'{"text": ""}\n{"text": " "}\n', "contains no text"),
        ("broken.jsonl", b'{"text": "a"}\n{text: 1}\n', "line 2: expected a JSON object with text; found '{text: 1}'"),
        ("two.jsonl", b'{"a": "x", "b": "y"}\n', "line 1: expected the field 'text'"),
        ("mixed.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b"}\n', "line 2 has no label"),
        ("cells.csv", b"text,label\nto be,or,not\n", "row 2 has 3 cells; expected 2"),
    ],
)
def test_wrong_files(capsys, name: str, content: bytes, message: str) -> None:
    pathlib.Path(name).write_bytes(content)
    status, out, err = run(capsys, "fit", name, *TINY)
    assert status == 1, err
    assert message in err
    assert "Traceback" not in err
    assert not out
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--longest", "1"], "2 to 4096 tokens; found 1"),
        (["--longest", "100000"], "2 to 4096 tokens; found 100000"),
        (["--vocabulary", "letters"], "found 'letters'"),
        (["--vocabulary", "subwords:10"], "expected 257 to 131,072 subwords; found 10"),
        (["--recipe", "images"], "needs images"),
        (["--recipe", "points"], "needs numeric data"),
        (["--recipe", "levels-mask"], "needs images"),
    ],
)
def test_wrong_fits(capsys, words: list[str], message: str) -> None:
    pathlib.Path("book.txt").write_text(BOOK)
    status, _, err = run(capsys, "fit", "book.txt", *TINY, *words)
    assert status == 2, err
    assert message in err
    assert not pathlib.Path("runs").exists()


def test_held_out_text_with_a_stranger_is_named(masked, capsys) -> None:
    pathlib.Path("euro.txt").write_text("ten € and more of it")
    for flag in ("--data", "--samples"):
        status, _, err = run(capsys, "evaluate", masked, flag, "euro.txt")
        assert status == 1
        assert "euro.txt" in err
        assert "'€' (U+20AC) at character 5" in err


def test_texts_alone_can_be_filled_in(capsys, masked) -> None:
    assert main(["fit", "example:moons", *TINY, "--out", "moons"]) == 0
    status, _, err = run(capsys, "sample", "moons", "--template", "to be")
    assert status == 2
    assert "fills in text" in err
    status, _, err = run(capsys, "sample", "moons", "--top-k", "3")
    assert status == 2
    assert "require a model of tokens" in err
    status, _, err = run(capsys, "fit", "example:moons", *TINY, "--vocabulary", "bytes")
    assert status == 2
    assert "a vocabulary applies to text only" in err


OWN = """
from feller import Linear
from feller.core.errors import UsageError
from feller.paths import ReversibleCorrector, LeaveOneOut, MetricPath, Mixture, DistanceTable
from feller.models.recipes.images import _token_recipe
from feller.spaces import UniformSource
from feller.spaces.tokens import CategoricalSource

def table(data, size, change):
    rows = [[float(i != j) for j in range(17)] for i in range(17)]
    rows[change[0]][change[1]] = change[2]
    path = MetricPath(DistanceTable(tuple(map(tuple, rows))))
    return _token_recipe(data, size, "own", UniformSource(), lambda count: path)

def negative(data, size): return table(data, size, (2, 5, -1.0))
def diagonal(data, size): return table(data, size, (3, 3, 0.5))

def law(data, size, weights, **more):
    source = CategoricalSource(weights)
    def path(count):
        return Mixture(Linear(), source, parameterization=LeaveOneOut(), **more)
    return _token_recipe(data, size, "own", source, path)

def missing(data, size): return law(data, size, (0.0,) + 16 * (1.0,), corrector=ReversibleCorrector())
def short(data, size): return law(data, size, (1.0, 1.0))
def below(data, size): return law(data, size, (-1.0,) + 16 * (1.0,))
def nothing(data, size): return law(data, size, 17 * (0.0,))
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negative", "finite distances of at least 0; found row 2, column 5: -1"),
        ("diagonal", "itself; found row 3, column 3: 0.5. Set the diagonal to 0"),
        ("missing", "ReversibleCorrector requires a source"),
        ("short", "17 weights, one per token; found 2"),
        ("below", "finite and at least 0; found -1 for token 0"),
        ("nothing", "a positive source weight"),
    ],
)
def test_paths_that_cannot_be(capsys, name: str, message: str) -> None:
    pathlib.Path("own.py").write_text(OWN)
    status, _, err = run(capsys, "fit", "example:digits", "--recipe", f"own.py:{name}", *TINY)
    assert status == 2, err
    assert message in err
    assert "Traceback" not in err


def test_a_source_may_lack_symbols() -> None:
    """Then the bound is that of the path's own rates, since the noising chain cannot be run backwards."""
    assert tightest_elbo(Mixture(source=CategoricalSource((0.0, 1.0, 2.0)))) == SamplingRates()
    assert tightest_elbo(Mixture(source=CategoricalSource((1.0, 1.0, 2.0)))) == ReversalRates()


def test_strangers_text_executes_nothing(masked, capsys) -> None:
    folder = pathlib.Path("stranger")
    folder.mkdir()
    for path in masked.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    record = json.loads((folder / "model.json").read_text())
    for evil in (
        {"is": "os.system", "command": "touch boom"},
        {"is": "Popen", "args": ["touch", "boom"]},
        {"is": "Subwords", "tokenizer": '{"model": {"type": "pickle", "path": "boom"}}'},
    ):
        changed = json.loads(json.dumps(record))
        changed["modality"]["vocabulary"] = evil
        (folder / "model.json").write_text(json.dumps(changed))
        status, _, err = run(capsys, "sample", folder)
        assert status == 1, err
        assert "Traceback" not in err
    assert not os.path.exists("boom")
