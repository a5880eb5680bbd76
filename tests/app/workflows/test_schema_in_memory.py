"""Schemas, samples and options in memory: what they may be, and how others are refused."""

import json

import numpy as np
import pandas as pd
import pytest

import feller
from feller.evaluation.metrics import metric
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")

COUNTS = {"recipe": "table-marginals", "report": False}


def people(n=300, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n)
    return pd.DataFrame({"age": age, "school": rng.choice(["first", "second"], n), "old": age > 50})


def bounded():
    """Return a schema that nobody guessed from rows."""
    schema = json.loads(json.dumps(feller.infer_schema(people())))
    schema["columns"]["age"].update(low=np.int64(10), high=99, edges=[20, 50, 60])
    assert schema.pop("draft") is True
    return schema


def test_a_schema_is_a_dict_a_path_or_an_object(here):
    schema = bounded()
    first = feller.fit(people(), schema=schema, epsilon=4.0, unsafe_seed=0, out="a", **COUNTS)
    kept = json.loads((first.path / "schema.json").read_text())
    assert kept == json.loads(json.dumps(schema, default=int))
    assert first.sample(300)["age"].between(10, 99).all()
    runs = [
        feller.fit(people(), schema=one, epsilon=4.0, unsafe_seed=0, out=out, **COUNTS)
        for out, one in (("b", first.path / "schema.json"), ("c", feller.Schema.from_dict(schema)))
    ]
    assert all(run.sample(50).equals(first.sample(50)) for run in runs)
    assert feller.Schema.from_dict(schema).to_dict() == feller.read(people(), schema=schema).modality.schema.to_dict()
    synth = feller.Synthesizer(schema=schema, recipe="table-marginals").fit(people())
    assert synth.sample(20)["age"].between(10, 99).all()


def test_other_schemas_are_refused_and_leave_nothing(here):
    with refuses(feller.UsageError, argument="schema", found="int"):
        feller.fit(people(), schema=3)
    with refuses(feller.InputError, column="age", argument="kind", remedy="Did you mean 'numerical'?"):
        feller.fit(people(), schema={"columns": {"age": {"kind": "numericl"}}})
    with refuses(feller.InputError, argument="column", found="'old'"):
        some = bounded()
        del some["columns"]["old"]  # pyrefly: ignore
        feller.fit(people(), schema=some, out="none")
    with refuses(feller.UsageError, argument="data", found="list"):
        feller.infer_schema([1])
    assert not [path for path in here.iterdir() if path.name != "home"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return feller.fit(people(), out=str(tmp_path_factory.mktemp("run") / "run"), **COUNTS)


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("given", "age=30", "'age=30'"),
        ("seed", "a", "'a'"),
        ("n", "100", "'100'"),
        ("n", 10.5, "10.5"),
        ("verbose", "loud", "'loud'"),
        ("overwrite", "yes", "'yes'"),
    ],
)
def test_options_of_a_wrong_type_are_refused(run, option, value, found):
    with refuses(feller.UsageError, argument=option, found=found) as caught:
        feller.sample(run, **{option: value})
    assert caught.value.expected
    assert caught.value.remedy


def test_samples_in_memory_are_judged(run):
    drawn = run.sample(200)
    judged = feller.evaluate(run, samples=drawn)
    assert judged.path == run.path / "report-samples-in-memory.html"
    assert judged.metrics["n"] == 200
    assert feller.evaluate(run, samples=drawn[:100], data=people(100, 1)).metrics["tv2"] == pytest.approx(
        judged.metrics["tv2"], abs=0.3
    )


def test_configs_refuse_values_of_a_wrong_type():
    for options in ({"seed": "a"}, {"seed": "a", "epsilon": 2.0}):
        with refuses(feller.UsageError, argument="seed", found="'a'"):
            feller.FitConfig(**options)


def test_bars_have_an_axis_and_their_numbers(run):
    report = feller.evaluate(run, n=100)
    (bars, *_) = report.figures()
    shares, *others = bars.axes
    written = {text.get_text().split(",")[0] for axes in bars.axes for text in axes.texts}
    assert metric("valid").text(report.metrics["valid"]) in written
    assert metric("tv2").text(report.metrics["tv2"]) in written
    assert all(len(axes.get_xticks()) > 1 for axes in bars.axes)
    widths = {
        name.get_text(): bar.get_width()
        for name, bar in zip(shares.get_yticklabels(), shares.patches[::2], strict=True)
    }
    assert widths["TV distance, columns"] == pytest.approx(report.metrics["tv1"])
    assert len(bars.legends) == 1  # below the bars, not on them
    assert all(len(axes.get_yticks()) == 1 for axes in others)
