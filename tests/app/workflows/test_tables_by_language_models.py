"""Tables that language models generate: fits, private fits, samples, conditions, refusals."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.core.serialization import read_json
from feller.data.tables.modality import Table
from feller.models.model import Model, load_model
from tests.app.asked import refuse, run
from tests.models.pretrained.tiny_text import SENTENCES, save

pytestmark = pytest.mark.usefixtures("here")
LM = "table-language-model"
POSITIONS = 64
QUIET = ("--report", "none")
START = ("--start-from", "base", "--train.lr", 0.02, *QUIET)
PRIVATE = ("--epsilon", 8, "--train.batch-size", 60, "--unsafe-seed", 0)
PAY = {"cat": 10, "dog": 30, "bird": 60}


def people(n: int = 300) -> pd.DataFrame:
    """Return rows in which the job nearly determines the pay."""
    rng = np.random.default_rng(0)
    job = rng.choice([*PAY], n)
    pay = np.array([PAY[name] for name in job]) + rng.integers(0, 5, n)
    age = pd.array(rng.integers(18, 66, n), dtype="Int64")
    age[rng.random(n) < 0.1] = pd.NA
    return pd.DataFrame({"job": job, "age": age, "pay": pay})


SCHEMA = {
    "columns": {
        "job": {"kind": "categorical", "values": [*PAY]},
        "age": {"kind": "numerical", "low": 18, "high": 65, "bins": 8, "missing": ""},
        "pay": {"kind": "numerical", "low": 10, "high": 64, "bins": 11},
    }
}


@pytest.fixture(autouse=True)
def base(here: object) -> None:
    """Write a run of a language model of public texts, a table and its schema."""
    pathlib.Path("public.txt").write_text("\n".join(SENTENCES * 4))
    people().to_csv("people.csv", index=False)
    pathlib.Path("schema.json").write_text(json.dumps(SCHEMA))
    run("import", save("gpt2", pathlib.Path("folder"), POSITIONS), "--data", "public.txt", "--out", "base")


def independent_nll(model: Model) -> float:
    """Return the entropy of the columns of the table, in nats per row."""
    table = model.spec.modality
    assert isinstance(table, Table)
    codes = feller.read("people.csv", like=table).values
    shares = [codes[:, j].bincount(minlength=count).double() / len(codes) for j, count in enumerate(table.counts)]
    return -sum(float(torch.xlogy(share, share).sum()) for share in shares)


def test_from_fit_to_samples() -> None:
    run("fit", "people.csv", "--schema", "schema.json", *START, "--rank", 8, "--steps", 80, "--out", "people")
    model = load_model("people")
    assert model.nll("people.csv").mean() < independent_nll(model) - 0.5
    run("sample", "people", "-n", 50, "--out", "fake.csv")
    fake = pd.read_csv("fake.csv")
    assert [*fake.columns] == ["job", "age", "pay"]
    assert {*fake.job} <= {*PAY}
    assert fake.pay.between(10, 64).all()
    run("sample", "people", "-n", 20, "--given", "job=bird", "--out", "birds.csv")
    birds = pd.read_csv("birds.csv")
    assert {*birds.job} == {"bird"}
    assert birds.pay.mean() > 45
    pathlib.Path("gaps.csv").write_text("job,age,pay\ncat,,\n,40,62\n")
    run("sample", "people", "--complete", "gaps.csv", "--out", "complete.csv")
    complete = pd.read_csv("complete.csv")
    assert complete.job.tolist()[0] == "cat"
    assert complete.notna().all(axis=None)
    metrics = run("evaluate", "people", "--data", "people.csv")
    assert metrics["nll"] < metrics["nll_baseline"]
    assert metrics["valid"] == 1
    for form in ("pretrained", "peft", "onnx"):
        refuse("export", "people", "--to", form, "--out", "exported")
    run("fit", "people.csv", "--start-from", "people", *QUIET, "--steps", 2, "--out", "more")
    more, first = (read_json(pathlib.Path(folder) / "model.json") for folder in ("more", "people"))
    assert more["architecture"] == first["architecture"]
    assert read_json(pathlib.Path("more/recipe.json"))["provenance"]["recipe"] == LM


def test_any_order_of_columns() -> None:
    words = ("--objective.shuffle-prob", 1, "--steps", 150, "--out", "people")
    run("fit", "people.csv", "--schema", "schema.json", *START, *words)
    run("sample", "people", "-n", 30, "--given", "pay=12", "--out", "given.csv")
    given = pd.read_csv("given.csv")
    assert {*given.pay} == {12}
    assert (given.job == "cat").mean() > 0.5


def test_resumed_fits_equal_one_session() -> None:
    words = ("--schema", "schema.json", *START, "--rank", 2, "--train.lr-schedule", "constant", "--train.warmup", 0)
    run("fit", "people.csv", *words, "--steps", 6, "--out", "whole")
    run("fit", "people.csv", *words, "--steps", 3, "--out", "parts")
    run("fit", "--resume", "--out", "parts", "--steps", 6, *QUIET)
    whole, parts, start = (load_model(folder).network.state_dict() for folder in ("whole", "parts", "base"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], start[name]) for name in whole)


@pytest.mark.parametrize("rank", [pytest.param(None, marks=pytest.mark.slow), 4])
def test_private_fits(rank: int | None) -> None:
    low_rank = () if rank is None else ("--rank", rank)
    words = ("--schema", "schema.json", *START, *PRIVATE, *low_rank, "--steps", 30)
    result = run("fit", "people.csv", *words, "--out", "private")
    assert 7 < result["epsilon"] <= 8
    ledger = read_json(pathlib.Path("private/ledger.json"))
    assert [event["is"] for event in ledger["events"]] == ["GaussianMechanism", "PoissonSubsampledGaussian"]
    assert ledger["events"][1]["steps"] == 30
    record = read_json(pathlib.Path("private/recipe.json"))
    assert record["provenance"]["recipe"] == LM
    run("fit", "people.csv", "--schema", "schema.json", *START, "--train.lr", 1e-9, "--steps", 1, "--out", "start")
    before, after = (load_model(folder).nll("people.csv").mean() for folder in ("start", "private"))
    assert after < before - 2


@pytest.mark.slow
def test_private_fits_search_a_schema() -> None:
    run("fit", "people.csv", *START, *PRIVATE, "--rank", 2, "--steps", 1, "--out", "private")
    events = read_json(pathlib.Path("private/ledger.json"))["events"]
    assert len(events) > 2
    provenance = read_json(pathlib.Path("private/recipe.json"))["provenance"]
    assert provenance["has_own_schema"] is True


def test_private_fits_need_a_model_of_other_data() -> None:
    words = ("--schema", "schema.json", *PRIVATE, *QUIET, "--steps", 3)
    run("import", "folder", "--out", "unknown")
    refuse("fit", "people.csv", "--start-from", "unknown", *words)
    run("fit", "people.csv", *START, "--steps", 1, "--out", "open")
    refuse("fit", "people.csv", "--start-from", "open", *PRIVATE, *QUIET, "--steps", 3)


def test_models_that_tables_cannot_start_from() -> None:
    run("import", save("bert", pathlib.Path("masked"), POSITIONS), "--out", "bert")
    refuse("fit", "people.csv", "--start-from", "bert", *QUIET, argument="start_from")
    refuse("fit", "people.csv", "--start-from", "base", "--recipe", "table", *QUIET, argument="start_from")
    refuse("fit", "people.csv", "--recipe", LM, *QUIET, argument="start_from")
    refuse("fit", "public.txt", "--start-from", "base", "--recipe", LM, *QUIET)
    run("import", save("gpt2", pathlib.Path("short"), 16), "--out", "short-base")
    refuse("fit", "people.csv", "--start-from", "short-base", *QUIET, argument="start_from")


def test_columns_of_texts_are_texts() -> None:
    pd.DataFrame({"text": SENTENCES * 4, "age": range(24)}).to_csv("texts.csv", index=False)
    run("fit", "texts.csv", *START, "--steps", 1, "--out", "texts")
    assert read_json(pathlib.Path("texts/recipe.json"))["provenance"]["recipe"] == "text-autoregressive"


def test_tables_in_memory_and_of_numbers() -> None:
    frame = people()
    frame["job"] = frame["job"].map(PAY)
    fitted = feller.fit(frame.dropna(), start_from="base", steps=2, report="none", out="numbers")
    assert fitted.sample(5).columns.tolist() == ["job", "age", "pay"]
    assert fitted.log_prob(frame.dropna().head(4)).shape == (4,)
