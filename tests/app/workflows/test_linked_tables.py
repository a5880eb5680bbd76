"""Several tables from the fit to the samples: folders, data frames, conditions, reports, schemas, privacy."""

import json
import pathlib

import pandas as pd
import pytest

import feller
from feller.app.cli import main
from feller.core.errors import UsageError
from feller.core.run_folder import open_run
from feller.core.serialization import from_dict
from feller.privacy.accounting.ledger import Ledger
from tests.data.tables.test_linked_tables import shop
from tests.errors import refuses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("linked")
    (path / "shop").mkdir()
    for name, frame in shop(200).items():
        frame.to_csv(path / "shop" / f"{name}.csv", index=False)
    return path


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> feller.FittedRun:
    return feller.fit(shop(200), order="date", size="tiny", steps=20, out=str(folder / "run"), report="full")


def check_links(tables: dict[str, pd.DataFrame]) -> None:
    """Every key is unique, and every foreign key refers to a row."""
    assert tables["customers"].customer_id.is_unique
    assert tables["orders"].order_id.is_unique
    assert not tables["items"].duplicated(["order_id", "line"]).any()
    assert tables["orders"].customer_id.isin(tables["customers"].customer_id).all()
    assert tables["tickets"].customer_id.isin(tables["customers"].customer_id).all()
    assert tables["items"].order_id.isin(tables["orders"].order_id).all()
    assert tables["items"].product_id.isin(shop()["products"].product_id).all()


def test_samples_are_data_frames(run: feller.FittedRun) -> None:
    samples = run.sample(300, seed=1)
    assert isinstance(samples, feller.Dataset)
    tables = samples.frames()
    check_links(tables)
    assert {name: len(tables[name]) for name in ("customers",)} == {"customers": 300}
    assert tables["orders"].date.dtype.kind == "M"
    assert tables["orders"].groupby("customer_id").date.diff().dropna().min() >= pd.Timedelta(0)
    again = run.sample(300, seed=1)
    assert isinstance(again, feller.Dataset)
    for name, table in again.frames().items():
        pd.testing.assert_frame_equal(table, tables[name])


def test_cells_are_not_completed(run: feller.FittedRun) -> None:
    with refuses(UsageError, argument="complete"):
        run.impute(shop(3)["orders"])


def test_attributes_are_given(run: feller.FittedRun) -> None:
    samples = run.sample(30, given={"customers.country": "FR", "num_rows": (2, 4)})
    assert isinstance(samples, feller.Dataset)
    tables = samples.frames()
    assert (tables["customers"].country == "FR").all()
    assert 60 <= sum(len(tables[name]) for name in ("orders", "items", "tickets")) <= 120


def test_reports_have_metrics_of_links(run: feller.FittedRun) -> None:
    metrics = run.report.metrics
    for name in ("children_ks", "parent_child_tv", "sibling_tv", "row_tv2"):
        assert 0 < metrics[name] <= 1, name
        assert metrics[f"{name}_floor"] is not None
    assert metrics["nll"] > 0


def test_distances_tell_other_persons_from_others(folder: pathlib.Path, run: feller.FittedRun) -> None:
    """Other real persons are near the floor; tables without the rows after the first one of a parent are not."""
    near = shop(200, seed=5)
    near["items"]["quantity"] = near["items"].quantity.clip(upper=shop(200)["items"].quantity.max())
    far = near | {"orders": near["orders"].drop_duplicates("customer_id")}
    far["items"] = near["items"][near["items"].order_id.isin(far["orders"].order_id)]
    found = []
    for name, tables in (("near", near), ("far", far)):
        (folder / name).mkdir()
        for table, frame in tables.items():
            frame.to_csv(folder / name / f"{table}.csv", index=False)
        source = str(folder / name)
        found.append(feller.evaluate(run, samples=source, data=str(folder / "shop"), seed=0).metrics["children_ks"])
    assert found[0] < 0.13
    assert found[1] > found[0] + 0.05


def test_command_line(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(folder)
    fit = ["fit", "shop", "--person", "customers", "--max-rows", "9", "--size", "tiny", "--steps", "3"]
    assert main([*fit, "--report", "none", "--out", "cut"]) == 0
    kept = json.loads(pathlib.Path("cut/schema.json").read_text())
    assert kept["tables"]["orders"]["foreign_keys"] == [{"columns": ["customer_id"], "table": "customers"}]
    assert (kept["draft"], kept["max_rows"]) == (True, 9)
    assert main(["sample", "cut", "-n", "40", "--given", "country=DE", "--out", "made"]) == 0
    tables = {path.stem: pd.read_csv(path) for path in pathlib.Path("made").glob("*.csv")}
    assert {*tables} == {"customers", "orders", "items", "tickets"}
    check_links(tables)
    assert (tables["customers"].country == "DE").all()
    assert main(["evaluate", "cut", "--samples", "made", "--data", "shop"]) == 0
    assert main(["fit", "--resume", "--out", "cut"]) == 0
    assert main(["sample", "cut", "-n", "2", "--out", "made.csv"]) == 2
    assert main(["fit", "shop", "--person", "clients", "--out", "no"]) == 1
    assert main(["fit", "shop", "--person", "customers", "--epsilon", "2", "--out", "no"]) != 0
    assert not pathlib.Path("no", "weights.safetensors").exists()


def test_schemas_are_drafted_and_edited(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    draft = ["data", "schema", "shop", "--person", "customers", "--order", "orders.date", "--out", "draft.json"]
    assert main([*draft, "--drop", "customers.age", "--clip"]) == 0
    content = json.loads(pathlib.Path("draft.json").read_text())
    assert content["persons"] == "customers"
    assert content["tables"]["customers"]["columns"]["age"] == {"kind": "skip"}
    assert content["tables"]["orders"]["order"] == "date"
    assert content["tables"]["products"] == {"lookup": True, "primary_key": ["product_id"]}
    assert main(["data", "schema", "shop", "--drop", "age", "--out", "other.json"]) == 1
    again = feller.infer_schema("shop", person="customers", order="orders.date", drop=["customers.age"], clip=True)
    assert again == content


def test_private_fits_protect_persons(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    schema = feller.infer_schema(shop(200), person="customers", clip=True)
    schema.pop("draft")
    pathlib.Path("schema.json").write_text(json.dumps(schema))
    fit = ["fit", "shop", "--schema", "schema.json", "--epsilon", "8", "--size", "tiny", "--steps", "4"]
    assert main([*fit, "--unsafe-seed", "1", "--report", "quick", "--out", "private"]) == 0
    run = open_run("private")
    ledger = from_dict(Ledger, run.read_record(run.ledger))
    assert ledger.n < 200
    assert ledger.epsilon() <= 8
    assert main(["sample", "private", "-n", "50", "--out", "private-shop"]) == 0
    check_links({path.stem: pd.read_csv(path) for path in pathlib.Path("private-shop").glob("*.csv")})
