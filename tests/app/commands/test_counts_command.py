"""feller fit --recipe table-marginals, and what is done with such a run."""

import csv
import json
import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.models.model import load_model
from feller.privacy.accounting.dp_events import GaussianMechanism, ZCdp
from feller.training.objectives.marginal_fitting import MarginalFitting

N = 2000
FAR = 67
"""Rows by which those that are kept back, each with a chance of 0.1, are off once in two million times."""
SCHEMA = {
    "unit": "row",
    "outside": "refuse",
    "columns": {
        "age": {"kind": "numerical", "low": 18, "high": 90, "edges": [30, 45, 60], "digits": True},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
        "job": {"kind": "categorical", "values": ["clerk", "driver", "nurse"]},
        "pay": {"kind": "categorical", "values": ["low", "high"]},
    },
    "rules": [{"if": {"job": ["nurse"]}, "then": {"sex": ["F"]}}],
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a table, and what is public about it."""
    folder = tmp_path_factory.mktemp("people")
    u = Rng(0).stream("people").uniform((N, 4), torch.float64).tolist()
    lines = ["age,sex,job,pay"]
    for a, b, c, d in u:
        sex = "FM"[b < 0.5]
        job = ("clerk", "driver", "nurse" if sex == "F" else "clerk")[int(3 * c)]
        age = 18 + int(73 * a * a)
        lines.append(
            f"{age},{sex},{job},{'high' if d < (0.7 if job == 'nurse' else 0.2) + 0.2 * (age > 45) else 'low'}"
        )
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return folder


def fit(people: pathlib.Path, out: pathlib.Path, *words: str) -> int:
    known = ("--schema", str(people / "schema.json"), "--recipe", "table-marginals")
    return main(["fit", str(people / "people.csv"), *known, "--out", str(out), *words])


@pytest.fixture(scope="module")
def private(people: pathlib.Path) -> Run:
    assert fit(people, people / "private", "--epsilon", "1", "--unsafe-seed", "0") == 0
    return Run(people / "private")


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_a_run(private: Run) -> None:
    names = {path.name for path in private.path.iterdir()}
    assert names == {
        *("recipe.json", "model.json", "ledger.json", "state.json", "report.json", "report.html", "lock"),
        *("weights.safetensors", "average.safetensors"),
    }
    report = private.path.joinpath("report.html").read_text()
    assert "differential privacy" in report
    assert "counts of the tables" in report
    assert "--minutes" not in report
    numbers = json.loads(private.path.joinpath("report.json").read_text())["numbers"]
    assert numbers["steps"] == 0
    assert 0.99 <= numbers["epsilon"] <= 1
    assert abs(numbers["rows_protected"] - 1800) < FAR
    assert numbers["auc_boosted"] > 0.6


def test_the_ledger_spends_what_was_asked_and_never_more(private: Run) -> None:
    ledger = ledger_of(private)
    assert ledger is not None
    assert all(isinstance(one, ZCdp) for one in ledger.events)
    assert 0.99 <= ledger.epsilon() <= 1
    assert abs(ledger.n - 1800) < FAR
    assert read_fit_record(private).provenance.private is not None
    assert read_fit_record(private).provenance.private.rho == pytest.approx(sum(one.rho for one in ledger.events))


def test_nll_is_that_of_the_held_out_rows(private: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Ages are told by their bins; each row costs what the graphical model says."""
    assert main(["evaluate", str(private.path), "--json"]) == 0
    nll = json.loads(capsys.readouterr().out)["nll"]
    model = load_model(private)
    assert model.spec.modality.counts == (4, 2, 3, 2)
    learned, held_out = train_test_split(
        read_fit_record(private), reread_data(read_fit_record(private), model.spec.modality)
    )
    ledger = ledger_of(private)
    assert ledger is not None
    assert (len(learned), len(learned) + len(held_out)) == (ledger.n, N)
    assert nll == pytest.approx(-model.network.model().log_likelihood(held_out.values).mean().item(), abs=1e-9)


def test_rows_are_drawn_by_the_schema(private: Run, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "synthetic.csv"
    assert main(["sample", str(private.path), "-n", "3000", "--out", str(out)]) == 0
    drawn = rows(out)
    assert len(drawn) == 3000
    assert list(drawn[0]) == ["age", "sex", "job", "pay"]
    assert all(18 <= int(row["age"]) <= 90 for row in drawn)
    assert len({row["age"] for row in drawn}) > 60
    assert all(row["sex"] == "F" for row in drawn if row["job"] == "nurse")


def test_what_is_given_holds_and_the_rest_is_its_exact_conditional(private: Run, tmp_path: pathlib.Path) -> None:
    """False alarm in 1 of 10,000 for each share."""
    out = tmp_path / "given.csv"
    assert main(["sample", str(private.path), "-n", "4000", "--given", "sex=F", "age=50", "--out", str(out)]) == 0
    drawn = rows(out)
    assert all(row["sex"] == "F" and 45 <= int(row["age"]) < 60 for row in drawn)
    joint = load_model(private).network.model().marginal((0, 1, 2, 3))[2, 0]
    joint = joint / joint.sum()
    for i, job in enumerate(("clerk", "driver", "nurse")):
        for j, pay in enumerate(("low", "high")):
            share = sum(row["job"] == job and row["pay"] == pay for row in drawn) / 4000
            p = joint[i, j].item()
            assert abs(share - p) <= 3.9 * (p * (1 - p) / 4000) ** 0.5 + 1 / 4000


def test_gaps_are_filled_and_the_rest_is_left(private: Run, tmp_path: pathlib.Path) -> None:
    partial, out = tmp_path / "partial.csv", tmp_path / "whole.csv"
    partial.write_text("age,sex,job,pay\n33,,nurse,\n,M,,high\n77,F,clerk,low\n")
    assert main(["sample", str(private.path), "--complete", str(partial), "--out", str(out)]) == 0
    whole = rows(out)
    assert whole[0]["age"] == "33"
    assert (whole[0]["sex"], whole[0]["job"]) == ("F", "nurse")
    assert whole[1]["sex"] == "M"
    assert whole[1]["job"] in ("clerk", "driver")
    assert whole[2] == {"age": "77", "sex": "F", "job": "clerk", "pay": "low"}


@pytest.mark.usefixtures("unreported")
def test_a_seed_repeats_a_table_and_a_secret_never(people: pathlib.Path, tmp_path: pathlib.Path) -> None:
    told = []
    for name, seed in (("a", ("--unsafe-seed", "1")), ("b", ("--unsafe-seed", "1")), ("c", ()), ("d", ())):
        assert fit(people, tmp_path / name, "--epsilon", "2", *seed) == 0
        out = tmp_path / f"{name}.csv"
        assert main(["sample", str(tmp_path / name), "-n", "200", "--out", str(out)]) == 0
        told.append((out.read_bytes(), Run(tmp_path / name).ema_weights.read_bytes()))
    assert told[0] == told[1]
    assert len({weights for _, weights in told}) == 3


@pytest.mark.usefixtures("unreported")
def test_columns_that_had_to_be_found_are_paid_for_first(people: pathlib.Path, tmp_path: pathlib.Path) -> None:
    words = ["--recipe", "table-marginals", "--epsilon", "4", "--objective.method", "mst", "--out", str(tmp_path / "a")]
    assert main(["fit", str(people / "people.csv"), *words]) == 0
    ledger = ledger_of(Run(tmp_path / "a"))
    assert ledger is not None
    kinds = [type(one) for one in ledger.events]
    found = kinds.count(GaussianMechanism)
    assert found
    assert kinds == [GaussianMechanism] * found + [ZCdp] * 3
    assert ledger.reserved_delta > 0
    assert 3.99 <= ledger.epsilon() <= 4


@pytest.mark.usefixtures("unreported")
def test_without_epsilon_counts_are_exact(people: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path / "exact")
    assert fit(people, run.path, "--objective.method", "mst") == 0
    assert not run.ledger.exists()
    model = load_model(run)
    asked = read_fit_record(run)
    assert asked.provenance.private is None
    train, _ = train_test_split(asked, reread_data(asked, model.spec.modality))
    graphical = model.network.model()
    for clique in graphical.cliques:
        for cell in torch.cartesian_prod(*(torch.arange(graphical.counts[j]) for j in clique)).view(-1, len(clique)):
            share = (train.values[:, list(clique)] == cell).all(1).double().mean().item()
            assert graphical.marginal(clique)[tuple(cell)].item() == pytest.approx(share, abs=2e-3)


@pytest.mark.usefixtures("unreported")
def test_what_counts_may_cost_is_written_before_a_row_is_looked_at(people, tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "stopped")

    def stop(self: MarginalFitting, codes: torch.Tensor, rho: float, noise: object) -> None:
        ledger = ledger_of(run)
        assert ledger is not None
        assert [one.rho for one in ledger.events] == [rho]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MarginalFitting, "release", stop)
        assert fit(people, run.path, "--epsilon", "1") == 130
    assert main(["fit", "--resume", "--out", str(run.path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["sample", str(run.path)]) == 1
    assert fit(people, run.path, "--epsilon", "1", "--overwrite") == 0
    assert main(["fit", "--resume", "--out", str(run.path)]) == 2
    assert "already fitted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epsilon", "1", "--steps", "5"), "without training steps"),
        (("--minutes", "1"), "without training steps"),
        (("--noise", "1", "--stop-at-epsilon", "1"), "Use --epsilon instead"),
        (("--epsilon", "0.005"), "Use an epsilon of at least"),
        (("--epsilon", "1", "--delta", "0.01"), "--delta: expected"),
        (("--objective.max-model-size", "0"), "above 0"),
        (("--objective.method", "best"), "expected one of aim,"),
    ],
)
def test_wrong_use(words, said, people, tmp_path, capsys):
    assert fit(people, tmp_path / "a", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_wrong_use_of_a_run(private: Run, people: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    (tmp_path / "wish.py").write_text("def youth(values, given):\n    return -values[:, 0].double()\n")
    tried = {
        ("steer", str(private.path), "--reward", f"{tmp_path / 'wish.py'}:youth"): (
            2,
            "this model's data are discrete",
        ),
        ("sample", str(private.path), "--temperature", "0.5"): (2, "temperature"),
        ("sample", str(private.path), "--given", "sex=X"): (2, "sex: expected"),
        ("sample", str(private.path), "--given", "sex=M", "job=nurse"): (2, "a rule of the schema"),
        ("sample", str(private.path), "--solver", "heun"): (2, "solve"),
        ("fit", "example:digits", "--recipe", "table-marginals"): (2, "needs a table"),
        (
            *("fit", str(people / "people.csv"), "--recipe", "table", "--steps", "2", "--out", str(tmp_path / "b")),
            *("--start-from", str(private.path)),
        ): (2, "no run can start from"),
    }
    for words, (status, said) in tried.items():
        assert main([*words]) == status
        assert said in capsys.readouterr().err
