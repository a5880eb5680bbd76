"""From sounds to a run that makes some of log mels: what it is judged by, what it is not for, who may begin with it."""

import json
import pathlib
import signal
from typing import Any

import pytest
import torch

from feller.app.cli import main
from feller.app.workflows.speech.vocoders import load_vocoder
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors
from feller.data.speech.audio_io import read_sound
from feller.data.speech.mel import MelConfig
from feller.training.objectives.autoencoding import SpectralLoss
from tests.data.speech.written import noise

TINY = ("--recipe", "vocoder", "--size", "tiny", "--architecture.width", "16", "--train.batch-size", "4")


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder of twelve sounds of half a second."""
    folder = tmp_path_factory.mktemp("voices")
    for i in range(12):
        noise(folder / f"{i}.wav", 0.5 + 0.01 * i, 8_000)
    return folder


@pytest.fixture(scope="module")
def trained(voices: pathlib.Path) -> pathlib.Path:
    run = voices.parent / "trained"
    assert main(["fit", str(voices), *TINY, "--steps", "6", "--out", str(run)]) == 0
    return run


def test_it_is_judged_beside_griffin_lim(trained: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), "--json"]) == 0
    numbers = last(capsys)
    assert 0 < numbers["log_mel_error_griffin_lim"] < numbers["log_mel_error"] < 3
    assert 0 < numbers["spectral_error_griffin_lim"] < 2
    assert 0 < numbers["spectral_error"] < 3
    assert numbers["real_time_factor"] > 0
    assert (numbers["compared_with"], numbers["steps"]) == ("held-out data", 6)
    record = json.loads((trained / "report.json").read_text())
    assert record["verdict"].startswith("Not yet trained: spectral error")
    assert "of 1 clips held out." in record["judged"]
    page = (trained / "report.html").read_text()
    assert "<h2>Copies</h2>" in page
    lengths = [len(read_sound(trained / "copies" / f"1-{name}.wav").sound.samples) for name in ("real", "copy")]
    assert lengths[0] == lengths[1] > 0
    assert read_sound(trained / "copies" / "1-griffin-lim.wav").sound.sample_rate == 8_000
    assert not (trained / "preview.png").exists()


def test_other_sounds_have_a_page_of_their_own(trained, tmp_path, capsys):
    """They may be longer, and of another rate."""
    noise(tmp_path / "a.wav", 1.2, 16_000)
    assert main(["evaluate", str(trained), "--data", str(tmp_path / "a.wav"), "--json"]) == 0
    assert last(capsys)["compared_with"] == str(tmp_path / "a.wav")
    assert (trained / "report-a-wav.html").is_file()
    assert main(["evaluate", str(trained), "--data", "example:digits"]) == 1
    assert "expected sounds; found images" in capsys.readouterr().err


def test_it_draws_nothing(trained: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says so, and what it is for."""
    for words in (["sample", "-n", "1"], ["evaluate", "--samples", "x.npz"], ["audit"]):
        assert main([words[0], str(trained), *words[1:]]) == 2
        told = capsys.readouterr().err.splitlines()
        assert [line for line in told if line.startswith("feller:")] == [told[-1]]
        assert "vocoder" in told[-1]


def test_a_stop_changes_nothing(voices: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps in one go, and with Ctrl-C in the third: the same weights, bit for bit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    words = ["fit", str(voices), *TINY, "--steps", "6", "--out"]
    assert main([*words, "whole"]) == 0
    loss, calls = SpectralLoss.loss, []

    def stopped(self, network, example):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(self, network, example)

    monkeypatch.setattr(SpectralLoss, "loss", stopped)
    assert main([*words, "paused"]) == 130
    assert len(calls) < 6
    monkeypatch.setattr(SpectralLoss, "loss", loss)
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    for file in ("weights", "ema_weights"):
        whole, paused = (load_tensors(getattr(open_run(run), file))[0] for run in ("whole", "paused"))
        assert whole.keys() == paused.keys()
        assert all(torch.equal(whole[key], paused[key]) for key in whole)


def test_only_a_vocoder_begins_with_one(voices, trained, tmp_path, capsys):
    out = ["--steps", "1", "--out", str(tmp_path / "run")]
    assert main(["fit", "example:digits", "--size", "tiny", "--start-from", str(trained), *out]) == 1
    assert "expected sounds; found images" in capsys.readouterr().err
    for recipe in ("distil", "auto"):
        assert main(["fit", str(voices), "--recipe", recipe, "--start-from", str(trained), *out]) == 2
        assert "no built-in recipe for sounds" in capsys.readouterr().err
    assert main(["fit", str(voices), *TINY, "--start-from", str(trained), *out, "--json"]) == 0
    assert last(capsys)["steps"] == 1


def test_what_it_cannot_be_is_refused(voices, tmp_path, capsys):
    out = ["--steps", "1", "--out", str(tmp_path / "run")]
    wrong = [
        (["fit", "example:digits", "--recipe", "vocoder"], 2, "`vocoder` needs a folder of sounds"),
        (
            ["fit", str(tmp_path), "--recipe", "vocoder"],
            1,
            "expected audio files (.wav, .flac, .ogg, .opus, .mp3); found",
        ),
        (["fit", str(voices), *TINY, "--architecture.mel.hop-length", "160"], 2, "expected 100 frames per second"),
        (["fit", str(voices), *TINY, "--objective.segment-size", "8"], 2, "segment_size"),
        (["fit", str(voices), *TINY, "--epsilon", "8"], 2, "private training"),
    ]
    for words, code, told in wrong:
        assert main([*words, *out]) in (code, 1), words
        assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "model.json").exists()


def test_a_run_is_a_vocoder(trained: pathlib.Path) -> None:
    mel = MelConfig.default_for(8_000)
    wanted = torch.full((9, 40), -5.0)
    made = load_vocoder(str(trained), mel).synthesize(wanted, mel)
    assert made.shape == (720,)
    assert torch.equal(made, load_vocoder(str(trained), mel).synthesize(wanted, mel))
    clash = r"log mels with MelConfig\(sample_rate=16000.*with MelConfig\(sample_rate=8000.*Fit another"
    with pytest.raises(InputError, match=clash):
        load_vocoder(str(trained), MelConfig())


def test_a_run_of_something_else_is_none(tmp_path: pathlib.Path) -> None:
    run = str(tmp_path / "moons")
    assert main(["fit", "example:moons", "--size", "tiny", "--steps", "1", "--out", run]) == 0
    with pytest.raises(UsageError, match=r"not a vocoder run\. Fit a vocoder"):
        load_vocoder(run, MelConfig())
