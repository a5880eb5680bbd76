"""An export says of which weights it is, also where a training replaces them while they are read."""

import itertools
import pathlib

import pytest

from feller.app.config import ExportConfig
from feller.app.workflows.export import export
from feller.app.workflows.hugging_face import TRIES, read_stable
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import write_json
from feller.core.user_code import fingerprint
from feller.models.model import Model, load_model
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable


def trained_on(run: Run, step: int) -> None:
    save_tensors(run.ema_weights, {name: one + 1 for name, one in load_tensors(run.ema_weights)[0].items()})
    write_json(run.progress, {"step": step, "seconds": 1.0})


def test_an_export_is_of_the_weights_that_it_names(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, read = copied(tmp_path / "r"), itertools.count()
    before = fingerprint(run.ema_weights)

    def loading(run: Run) -> Model:
        model = load_model(run)
        if next(read) == 0:
            trained_on(run, 50)
        return model

    def writing(answer: object, place: pathlib.Path) -> None:
        place.write_bytes(b"")
        trained_on(run, 60)

    monkeypatch.setattr("feller.app.workflows.export.load_model", loading)
    monkeypatch.setattr("feller.app.workflows.export.WRITERS", {"torch-export": (".pt2", writing)})
    _, record = export(run, ExportConfig(to="torch-export"))
    assert next(read) == 2
    assert record["step"] == 50
    assert record["weights"] not in (before, fingerprint(run.ema_weights))


def test_a_folder_holds_weights_and_counters_of_one_moment(tmp_path, monkeypatch):
    run, read = copied(tmp_path / "r"), itertools.count()

    def loading(file: pathlib.Path) -> object:
        found = load_tensors(file)
        if next(read) == 0:
            trained_on(run, 50)
        return found

    monkeypatch.setattr("feller.app.workflows.hugging_face.load_tensors", loading)
    folder, _ = export(run, ExportConfig(to="huggingface"))
    assert next(read) == 2
    assert fingerprint(folder / "model.safetensors") == fingerprint(run.ema_weights)
    assert (folder / "state.json").read_bytes() == run.progress.read_bytes()


def test_weights_that_never_rest(tmp_path: pathlib.Path) -> None:
    run, read = copied(tmp_path / "r"), itertools.count(100)
    with pytest.raises(InputError, match=r"are being replaced"):
        read_stable(run, lambda: trained_on(run, next(read)))
    assert next(read) == 100 + TRIES


def test_a_run_without_weights_says_so(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    run.ema_weights.unlink()
    with pytest.raises(InputError, match="no EMA weights"):
        export(run, ExportConfig(to="torch-export"))
    with pytest.raises(InputError, match="expected a file"):
        export(run, ExportConfig(to="huggingface"))
