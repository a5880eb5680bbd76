"""Training states record the hardware, and resumed runs report a change."""

import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.training.checkpoint import HARDWARE_KEY, describe_hardware, hardware_change_notice
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

CPU = torch.device("cpu")
ELSEWHERE = "Another Processor (AVX2, 8 threads), torch 2.6.0"


def test_hardware_changes_are_noticed() -> None:
    assert (
        hardware_change_notice({}, CPU)
        == hardware_change_notice({HARDWARE_KEY: ""}, CPU)
        == hardware_change_notice({HARDWARE_KEY: describe_hardware(CPU)}, CPU)
        == ""
    )
    told = hardware_change_notice({HARDWARE_KEY: ELSEWHERE}, CPU)
    assert ELSEWHERE in told
    assert describe_hardware(CPU) in told
    assert "\n" not in told


def test_hardware_description_names_threads_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    one = describe_hardware(CPU)
    assert torch.__version__ in one
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert describe_hardware(CPU) != one


def resumed(run: Run, steps: int, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["fit", "--resume", "--out", str(run.path), "--steps", str(steps)]) == 0
    return "".join(capsys.readouterr())


def test_resumed_runs_report_hardware_changes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})  # reports are tested elsewhere
    run = copied(tmp_path / "r")
    resumed(run, 5, capsys)  # an older run, whose state names no processor
    tensors, note = load_tensors(run.state)
    assert note[HARDWARE_KEY] == describe_hardware(CPU)
    assert describe_hardware(CPU) not in resumed(run, 6, capsys)
    tensors, note = load_tensors(run.state)
    save_tensors(run.state, tensors, {**note, HARDWARE_KEY: ELSEWHERE})
    assert ELSEWHERE in resumed(run, 7, capsys)
    assert load_tensors(run.state)[1][HARDWARE_KEY] == describe_hardware(CPU)
