"""feller fit --recipe table-marginals, and commands on its run."""

import csv
import json

import pytest
import torch

from feller.app.cli import main
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.models.model import load_model
from feller.privacy.accounting.dp_events import GaussianMechanism, ZCdp
from feller.training.objectives.marginal_fitting import MarginalFitting
from tests.app.asked import refuse, run

N = 2000
FAR = 67
"""Deviation of the number of rows held out, each with probability 0.1, exceeded once in two million times."""
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
def people(tmp_path_factory):
    """Return a folder with a table and its schema."""
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


def command(people, out, *words):
    schema = ("--schema", people / "schema.json", "--recipe", "table-marginals")
    return ("fit", people / "people.csv", *schema, "--out", out, *words)


@pytest.fixture(scope="module")
def private(people):
    run(*command(people, people / "private", "--epsilon", 1, "--unsafe-seed", 0))
    return Run(people / "private")


def sampled(folder, file, *words):
    run("sample", folder, *words, "--out", file)
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_files_and_report(private):
    records = ("recipe.json", "model.json", "ledger.json", "state.json", "report.json", "report.html", "lock")
    assert {path.name for path in private.path.iterdir()} == {*records, "weights.safetensors", "average.safetensors"}
    report = json.loads((private.path / "report.json").read_text())
    numbers = report["numbers"]
    assert report["promise"]
    assert not any("--minutes" in step for step, _ in report["next_steps"])
    assert numbers["steps"] == 0
    assert 0.99 <= numbers["epsilon"] <= 1
    assert abs(numbers["rows_protected"] - 1800) < FAR
    assert numbers["auc_boosted"] > 0.6


def test_ledger_spends_epsilon_and_never_more(private):
    spent = ledger_of(private)
    assert all(isinstance(one, ZCdp) for one in spent.events)
    assert 0.99 <= spent.epsilon() <= 1
    assert abs(spent.n - 1800) < FAR
    assert read_fit_record(private).provenance.private.rho == pytest.approx(sum(one.zcdp_rho for one in spent.events))


def test_nll_of_held_out_rows(private):
    """Exact, with ages in bins."""
    nll, model, record = run("evaluate", private.path)["nll"], load_model(private), read_fit_record(private)
    assert model.spec.modality.counts == (4, 2, 3, 2)
    learned, held_out = train_test_split(record, reread_data(record, model.spec.modality))
    assert (len(learned), len(learned) + len(held_out)) == (ledger_of(private).n, N)
    assert nll == pytest.approx(-model.network.model().log_likelihood(held_out.values).mean().item(), abs=1e-9)


def test_samples_keep_the_schema(private, tmp_path):
    drawn = sampled(private.path, tmp_path / "new.csv", "-n", 3000)
    assert len(drawn) == 3000
    assert list(drawn[0]) == ["age", "sex", "job", "pay"]
    assert all(18 <= int(row["age"]) <= 90 for row in drawn)
    assert len({row["age"] for row in drawn}) > 60
    assert all(row["sex"] == "F" for row in drawn if row["job"] == "nurse")


def test_conditional_samples_are_exact(private, tmp_path):
    """False alarm in 1 of 10,000 for each share."""
    drawn = sampled(private.path, tmp_path / "new.csv", "-n", 4000, "--given", "sex=F", "age=50")
    assert all(row["sex"] == "F" and 45 <= int(row["age"]) < 60 for row in drawn)
    joint = load_model(private).network.model().marginal((0, 1, 2, 3))[2, 0]
    joint = joint / joint.sum()
    for i, job in enumerate(("clerk", "driver", "nurse")):
        for j, pay in enumerate(("low", "high")):
            share = sum(row["job"] == job and row["pay"] == pay for row in drawn) / 4000
            p = joint[i, j].item()
            assert abs(share - p) <= 3.9 * (p * (1 - p) / 4000) ** 0.5 + 1 / 4000


def test_partial_rows_are_completed(private, tmp_path):
    partial = tmp_path / "partial.csv"
    partial.write_text("age,sex,job,pay\n33,,nurse,\n,M,,high\n77,F,clerk,low\n")
    first, second, third = sampled(private.path, tmp_path / "new.csv", "--complete", partial)
    assert (first["age"], first["sex"], first["job"]) == ("33", "F", "nurse")
    assert second["sex"] == "M"
    assert second["job"] in ("clerk", "driver")
    assert third == {"age": "77", "sex": "F", "job": "clerk", "pay": "low"}


@pytest.mark.usefixtures("unreported")
def test_only_seeded_fits_are_repeatable(people, tmp_path):
    found = []
    for name, seed in (("a", ("--unsafe-seed", 1)), ("b", ("--unsafe-seed", 1)), ("c", ()), ("d", ())):
        run(*command(people, tmp_path / name, "--epsilon", 2, *seed))
        sampled(tmp_path / name, tmp_path / f"{name}.csv", "-n", 200)
        found.append(((tmp_path / f"{name}.csv").read_bytes(), Run(tmp_path / name).ema_weights.read_bytes()))
    assert found[0] == found[1]
    assert len({weights for _, weights in found}) == 3


@pytest.mark.usefixtures("unreported")
def test_schema_search_is_in_the_ledger(people, tmp_path):
    words = ("--recipe", "table-marginals", "--epsilon", 4, "--objective.method", "mst", "--out", tmp_path / "a")
    run("fit", people / "people.csv", *words)
    spent = ledger_of(Run(tmp_path / "a"))
    kinds = [type(one) for one in spent.events]
    found = kinds.count(GaussianMechanism)
    assert found
    assert kinds == [GaussianMechanism] * found + [ZCdp] * 3
    assert spent.reserved_delta > 0
    assert 3.99 <= spent.epsilon() <= 4


@pytest.mark.usefixtures("unreported")
def test_marginals_without_privacy_are_exact(people, tmp_path):
    folder = Run(tmp_path / "exact")
    run(*command(people, folder.path, "--objective.method", "mst"))
    assert not folder.ledger.exists()
    model, record = load_model(folder), read_fit_record(folder)
    assert record.provenance.private is None
    train, _ = train_test_split(record, reread_data(record, model.spec.modality))
    graphical = model.network.model()
    for clique in graphical.cliques:
        for cell in torch.cartesian_prod(*(torch.arange(graphical.counts[j]) for j in clique)).view(-1, len(clique)):
            share = (train.values[:, list(clique)] == cell).all(1).double().mean().item()
            assert graphical.marginal(clique)[tuple(cell)].item() == pytest.approx(share, abs=2e-3)


@pytest.mark.usefixtures("unreported")
def test_ledger_is_written_before_rows_are_counted(people, tmp_path, monkeypatch):
    folder = Run(tmp_path / "stopped")

    def stop(self, codes, rho, noise):
        assert [one.zcdp_rho for one in ledger_of(folder).events] == [rho]
        raise KeyboardInterrupt

    fit = command(people, folder.path, "--epsilon", 1)
    with monkeypatch.context() as patch:
        patch.setattr(MarginalFitting, "release", stop)
        assert main([*map(str, fit)]) == 130
    resume = ("fit", "--resume", "--out", folder.path)
    refuse(*resume, file=str(folder.path), remedy="Start again with --overwrite")
    refuse("sample", folder.path, kind=InputError, file=str(folder.path))
    run(*fit, "--overwrite")
    assert "already fitted" in str(refuse(*resume))


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--epsilon 1 --steps 5", {}),
        ("--minutes 1", {}),
        ("--noise 1 --stop-at-epsilon 1", {"argument": "noise"}),
        ("--epsilon 0.005", {}),
        ("--epsilon 1 --delta 0.01", {"argument": "delta", "found": "0.01"}),
        ("--objective.max-model-size 0", {}),
        ("--objective.method best", {"argument": "objective.method", "found": "'best'"}),
    ],
)
def test_refused_fits(words, fields, people, tmp_path):
    refuse(*command(people, tmp_path / "a", *words.split()), **fields)
    assert not (tmp_path / "a").exists()


def test_refused_uses_of_a_run(private, people, tmp_path):
    (tmp_path / "r.py").write_text("def youth(values, given):\n    return -values[:, 0].double()\n")
    refuse("steer", private.path, "--reward", f"{tmp_path}/r.py:youth")
    refuse("sample", private.path, "--temperature", 0.5, remedy="Drop temperature, top-k and top-p")
    refuse("sample", private.path, "--given", "sex=X", argument="sex", found="'X'")
    refuse("sample", private.path, "--given", "sex=M", "job=nurse", remedy="Remove one of them")
    refuse("sample", private.path, "--solver", "heun", remedy="Drop order, rates and solver")
    refuse("fit", "example:digits", "--recipe", "table-marginals", remedy="Use --recipe auto")
    words = ("--recipe", "table", "--steps", 2, "--out", tmp_path / "b", "--start-from", private.path)
    refuse("fit", people / "people.csv", *words)
