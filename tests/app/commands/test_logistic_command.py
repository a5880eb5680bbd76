"""feller fit --recipe logistic-private, and its audit."""

import json
import pathlib

import pytest

from feller.app.cli import main
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.run_folder import Run
from feller.data.loading.targets import read_with_target
from feller.models.model import load_model
from feller.privacy.accounting.dp_events import GaussianMechanism


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a private run of pictures, one of a table, and one without privacy."""
    folder = tmp_path_factory.mktemp("linear")
    for name, words in {
        "digits": ("example:digits", "--target", "label=0,1", "--epsilon", "4"),
        "open": ("example:digits", "--target", "label=0,1"),
        "people": ("example:adult", "--target", "income", "--epsilon", "1"),
    }.items():
        assert main(["fit", *words, "--recipe", "logistic-private", "--out", str(folder / name)]) == 0
    return folder


def numbers(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_the_ledger_holds_one_dose_of_noise(place: pathlib.Path) -> None:
    for name, epsilon in {"digits": 4.0, "people": 1.0}.items():
        ledger = ledger_of(Run(place / name))
        assert ledger is not None
        (expense,) = ledger.events
        assert isinstance(expense, GaussianMechanism)
        assert 0.99 * epsilon <= ledger.epsilon() <= epsilon
        assert ledger.epsilon("rdp") > ledger.epsilon()
    assert ledger_of(Run(place / "open")) is None


@pytest.mark.slow
def test_it_tells_people_apart_at_epsilon_1(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(place / "people"), "--json"]) == 0
    found = numbers(capsys)
    assert found["auc"] > 0.88
    assert found["accuracy"] > found["accuracy_constant"] + 0.06
    page = (place / "people" / "report.html").read_text()
    assert "(1.000, 1e-05)-differential privacy" in page
    assert "NOTHING" not in page


def test_new_noise_each_time_and_the_same_for_a_seed(place: pathlib.Path) -> None:
    words = ["fit", "example:digits", "--target", "label=0,1", "--epsilon", "4", "--recipe", "logistic-private"]
    for name, seed in (("a", ("--unsafe-seed", "0")), ("b", ("--unsafe-seed", "0")), ("c", ())):
        assert main([*words, *seed, "--out", str(place / name)]) == 0
    a, b, c, first = ((place / name / "average.safetensors").read_bytes() for name in ("a", "b", "c", "digits"))
    assert a == b
    assert len({a, c, first}) == 3


@pytest.mark.slow
def test_the_page_of_an_audit(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(place / "people"), "--json"]) == 0
    found = numbers(capsys)
    assert found["fisher_rows"] == found["rows_protected"] == 32_561
    assert found["fisher_least"] > found["spread"] >= found["fisher_with_prior"] > 0
    assert found["rebuilt_below"] == 0
    assert found["rebuilt_error_known"] > found["fisher_with_prior"]
    assert abs(found["loss_auc"] - 0.5) < 0.1  # 4 standard errors of 300 members against 300 others
    assert (place / "people" / "report-audit.html").is_file()


def test_without_noise_rows_are_read_off(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(place / "open"), "--json"]) == 0
    found = numbers(capsys)
    assert found["rebuilt_error"] < 1e-10
    assert "mse_bound" not in found
    assert "WITHOUT privacy" in (place / "open" / "report-audit.html").read_text()


def test_the_model_is_the_one_that_was_asked_for(place: pathlib.Path) -> None:
    run = Run(place / "digits")
    asked, model = read_fit_record(run), load_model(run)
    learned, other = train_test_split(asked, reread_data(asked, model.spec.modality))
    assert (len(learned), len(other)) == (287, 73)
    target = learned.target
    assert target is not None
    assert target.classes == ("0", "1")
    assert len(read_with_target("example:digits/test", learned.modality, target)) == 73


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("example:digits", "--epsilon", "1"), "needs a target"),
        (("example:digits", "--target", "label", "--epsilon", "1"), "--target label=0,1"),
        (("example:moons", "--target", "x", "--epsilon", "1"), "found rows of numbers, whose model stores statistics"),
        (("example:adult", "--target", "race", "--epsilon", "1"), "race; found 5 classes"),
        (("example:adult", "--target", "age", "--epsilon", "1"), "found 'age'"),
        (("example:adult", "--target", "income", "--epsilon", "1", "--steps", "5"), "without training steps"),
        (("example:adult", "--target", "income", "--noise", "1", "--stop-at-epsilon", "1"), "no gradient steps"),
        (("example:adult", "--target", "income", "--epsilon", "0"), "--epsilon: expected above 0"),
    ],
)
def test_what_is_refused(words: tuple, said: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words, "--recipe", "logistic-private", "--out", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_private_steps_of_a_regressor_are_still_refused(tmp_path, capsys):
    words = ("example:digits", "--target", "label", "--recipe", "regressor", "--epsilon", "1", "--steps", "3")
    assert main(["fit", *words, "--out", str(tmp_path / "r")]) == 2
    assert "a regressor trained by gradient steps" in capsys.readouterr().err


def test_it_is_not_gone_on_with(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--resume", "--out", str(place / "digits")]) == 2
    assert "already fitted" in capsys.readouterr().err


def test_rows_may_have_moved(tmp_path, monkeypatch, capsys):
    """The same rows at another place are known by their fingerprint, target and all; others are refused."""
    monkeypatch.chdir(tmp_path)
    columns = {
        "job": {"kind": "categorical", "values": ["clerk", "nurse"]},
        "pay": {"kind": "categorical", "values": ["low", "high"]},
    }
    pathlib.Path("schema.json").write_text(json.dumps({"columns": columns}))
    rows = [f"{('clerk', 'nurse')[i % 2]},{('low', 'high')[i % 3 % 2]}" for i in range(400)]
    for name, some in (("a", rows), ("b", rows), ("c", [*rows[:-1], "clerk,high"])):
        pathlib.Path(f"{name}.csv").write_text("job,pay\n" + "\n".join(some) + "\n")
    words = ("fit", "a.csv", "--schema", "schema.json", "--recipe", "logistic-private", "--target", "pay")
    assert main([*words, "--epsilon", "3", "--out", "r"]) == 0
    assert main(["audit", "r", "--data", "b.csv", "--show", "2", "--json"]) == 0
    assert numbers(capsys)["noise_held"] > 0
    assert main(["audit", "r", "--data", "c.csv"]) == 1
    assert "is not the training data" in capsys.readouterr().err
