"""Text and tokens on the command line: sampling, and what is refused."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.models.families.elbo import ReversalRates, SamplingRates, tightest_elbo
from feller.paths import Mixture
from feller.spaces.tokens import CategoricalSource
from tests.app.asked import refuse, run

pytestmark = pytest.mark.usefixtures("here")

TINY = ("--size", "tiny", "--steps", "2", "--sampling.nfe", "3")
SENTENCES = ("to be, or not to be; ", "the rest is silence. ", "words, words, words: ")
BOOK = "".join(SENTENCES[i * i % 3] for i in range(40))
KINDS = ("masked", "uniform", "autoregressive")


def fitted(tmp_path_factory, name, *words):
    folder = tmp_path_factory.mktemp(name)
    (folder / "book.txt").write_text(BOOK)
    run("fit", folder / "book.txt", "--longest", 24, *TINY, *words, "--out", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return fitted(tmp_path_factory, "masked")


@pytest.fixture(scope="module")
def uniform(tmp_path_factory):
    return fitted(tmp_path_factory, "uniform", "--recipe", "text-uniform")


@pytest.fixture(scope="module")
def autoregressive(tmp_path_factory):
    return fitted(tmp_path_factory, "autoregressive", "--recipe", "text-autoregressive")


def drawn(*words):
    run("sample", *words, "-n", 3, "--out", "new.npz", "--overwrite")
    return np.load("new.npz")["samples"].tolist()


def test_metrics_of_text(masked):
    numbers = json.loads((masked / "report.json").read_text())["numbers"]
    assert {"bits_per_token", "trigram_distance", "trigram_floor", "copied", "copied_floor", "steps"} <= numbers.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_temperature_zero(kind, request):
    """At temperature 0 and with top-k 1 tokens are not random; the times of jumps are, but for a fixed order."""
    folder = request.getfixturevalue(kind)
    cold = drawn(folder, "--temperature", 0)
    assert drawn(folder, "--temperature", 0) == drawn(folder, "--top-k", 1) == cold
    if kind == "autoregressive":
        assert len(set(cold)) == 1
        assert drawn(folder, "--temperature", 0, "--seed", 5) == cold
    assert drawn(folder) != cold


@pytest.mark.parametrize("kind", KINDS)
def test_template_is_kept(kind, request):
    for text in drawn(request.getfixturevalue(kind), "--template", "to be, ___ to be"):
        assert (text[:7], text[10:16], len(text)) == ("to be, ", " to be", 24)
        assert "_" not in text


@pytest.mark.parametrize("order", ["confidence", "entropy"])
def test_unmasking_orders_need_a_mask(order, masked, uniform, autoregressive):
    assert len(drawn(masked, "--order", order)) == 3
    refuse("sample", uniform, "--order", order, remedy="Omit the order")
    refuse("sample", autoregressive, "--order", order, remedy="Drop order, rates and solver")


@pytest.mark.parametrize("kind", KINDS)
def test_solvers_of_velocities_are_refused(kind, request):
    remedy = "Drop order, rates and solver" if kind == "autoregressive" else "Use euler"
    refuse("sample", request.getfixturevalue(kind), "--solver", "midpoint", remedy=remedy)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("--template", "e" * 25), {"remedy": "Shorten the template"}),
        (("--template", "_" * 30), {"remedy": "Shorten the template"}),
        (("--temperature", -1), {"argument": "temperature", "found": "-1"}),
        (("--top-k", 0), {"argument": "top_k", "found": "0"}),
        (("--top-p", 1.5), {"argument": "top_p", "found": "1.5"}),
        (("--order", "confident"), {"argument": "order", "remedy": "Did you mean 'confidence'?"}),
        (("--guidance", 2), {"argument": "guidance", "found": "one without any"}),
        (("--given", "label=sea"), {"argument": "given", "found": "'label'"}),
        (("--prompt", "to be"), {"argument": "prompt", "remedy": "Use --template TEXT"}),
        (("--out", "x.wav"), {"remedy": "Use .txt, .jsonl, .csv, .npz, or a folder (no suffix)"}),
    ],
)
def test_refused_samples(masked, words, fields):
    refuse("sample", masked, *words, **fields)


@pytest.mark.parametrize(
    ("template", "character"), [("to be €", "(U+20AC) at character 7"), ("to B", "Write 'b' instead")]
)
def test_characters_outside_the_vocabulary(masked, template, character):
    assert character in str(refuse("sample", masked, "--template", template))


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("one.txt", b"a" * 500, {}),
        ("blank.txt", b"\n\n \n\n", {}),
        ("empty.txt", b"", {}),
        ("bad.txt", b"abc\xff\xfedef", {"found": "byte 0xff at position 3"}),
        ("short.txt", b"short", {"remedy": "Use more text, or a smaller --longest"}),
        ("packed.txt.gz", b"\x1f\x8b\x08not really", {}),
        ("blank.jsonl", b'{"text": ""}\n{"text": " "}\n', {}),
        ("broken.jsonl", b'{"text": "a"}\n{text: 1}\n', {"place": "line 2", "found": "'{text: 1}'"}),
        ("two.jsonl", b'{"a": "x", "b": "y"}\n', {"place": "line 1", "found": "a, b"}),
        (
            "mixed.jsonl",
            b'{"text": "a", "label": "x"}\n{"text": "b"}\n',
            {"remedy": "Add the label, or remove all labels"},
        ),
        ("cells.csv", b"text,label\nto be,or,not\n", {"expected": "2 as in the first row"}),
    ],
)
def test_refused_files(name, content, fields):
    pathlib.Path(name).write_bytes(content)
    refuse("fit", name, *TINY, kind=InputError, file=name, **fields)
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--longest 1", {"found": "1"}),
        ("--longest 100000", {"found": "100000"}),
        ("--vocabulary letters", {"argument": "vocabulary", "found": "'letters'"}),
        ("--vocabulary subwords:10", {"found": "10"}),
        ("--recipe points", {"remedy": "Use --recipe auto"}),
        ("--recipe levels-mask", {"remedy": "Use --recipe auto"}),
    ],
)
def test_refused_fits(words, fields):
    pathlib.Path("book.txt").write_text(BOOK)
    refuse("fit", "book.txt", *TINY, *words.split(), **fields)
    assert not pathlib.Path("runs").exists()


def test_evaluated_text_with_an_unknown_character(masked):
    pathlib.Path("euro.txt").write_text("ten € and more of it")
    for flag in ("--data", "--samples"):
        fields = {"file": "euro.txt", "found": "'€' (U+20AC) at character 5"}
        refuse("evaluate", masked, flag, "euro.txt", kind=InputError, **fields)


def test_options_of_text_apply_to_text_only():
    run("fit", "example:moons", *TINY, "--out", "moons")
    refuse("sample", "moons", "--template", "to be", argument="template", remedy="Leave it out")
    refuse("sample", "moons", "--top-k", 3)
    refuse("fit", "example:moons", *TINY, "--vocabulary", "bytes", file="example:moons", remedy="Remove the vocabulary")


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
    ("name", "fields"),
    [
        ("negative", {"found": "row 2, column 5: -1"}),
        ("diagonal", {"found": "row 3, column 3: 0.5"}),
        ("missing", {"found": None}),
        ("short", {"found": "2"}),
        ("below", {"found": "-1 for token 0"}),
        ("nothing", {"found": "only zeros"}),
    ],
)
def test_refused_paths(name, fields):
    pathlib.Path("own.py").write_text(OWN)
    refuse("fit", "example:digits", "--recipe", f"own.py:{name}", *TINY, **fields)


def test_elbo_of_a_source_without_some_tokens():
    """The bound is that of the path's own rates, since the noising chain cannot be reversed."""
    assert tightest_elbo(Mixture(source=CategoricalSource((0.0, 1.0, 2.0)))) == SamplingRates()
    assert tightest_elbo(Mixture(source=CategoricalSource((1.0, 1.0, 2.0)))) == ReversalRates()


def test_untrusted_run_executes_nothing(masked):
    shutil.copytree(masked, "untrusted")
    record = json.loads(pathlib.Path("untrusted/model.json").read_text())
    for evil in (
        {"is": "os.system", "command": "touch boom"},
        {"is": "Popen", "args": ["touch", "boom"]},
        {"is": "Subwords", "tokenizer": '{"model": {"type": "pickle", "path": "boom"}}'},
    ):
        record["modality"]["vocabulary"] = evil
        pathlib.Path("untrusted/model.json").write_text(json.dumps(record))
        refuse("sample", "untrusted", kind=InputError)
    assert not os.path.exists("boom")
