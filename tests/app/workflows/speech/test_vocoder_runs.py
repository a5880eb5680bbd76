"""From sounds to a run that makes some of log mels: what it is judged by, what it is not for, who may begin with it."""

import json
import signal

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
from tests.app.asked import refuse, run
from tests.data.speech.written import noise
from tests.errors import refuses

TINY = ("--recipe", "vocoder", "--size", "tiny", "--architecture.width", "16", "--train.batch-size", "4")


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Return a folder of twelve sounds of half a second."""
    folder = tmp_path_factory.mktemp("voices")
    for i in range(12):
        noise(folder / f"{i}.wav", 0.5 + 0.01 * i, 8_000)
    return folder


@pytest.fixture(scope="module")
def trained(voices):
    folder = voices.parent / "trained"
    run("fit", voices, *TINY, "--steps", 6, "--out", folder)
    return folder


def test_it_is_judged_beside_griffin_lim(trained):
    numbers = run("evaluate", trained)
    assert 0 < numbers["log_mel_error_griffin_lim"] < numbers["log_mel_error"] < 3
    assert 0 < numbers["spectral_error_griffin_lim"] < 2
    assert 0 < numbers["spectral_error"] < 3
    assert numbers["real_time_factor"] > 0
    assert (numbers["compared_with"], numbers["steps"]) == ("held-out data", 6)
    record = json.loads((trained / "report.json").read_text())
    assert record["verdict"].startswith("Undertrained: spectral error")
    assert "of 1 clips held out." in record["judged"]
    page = (trained / "report.html").read_text()
    assert "<h2>Copies</h2>" in page
    lengths = [len(read_sound(trained / "copies" / f"1-{name}.wav").sound.samples) for name in ("real", "copy")]
    assert lengths[0] == lengths[1] > 0
    assert read_sound(trained / "copies" / "1-griffin-lim.wav").sound.sample_rate == 8_000
    assert not (trained / "preview.png").exists()


def test_other_sounds_have_a_page_of_their_own(trained, tmp_path):
    """They may be longer, and of another rate."""
    noise(tmp_path / "a.wav", 1.2, 16_000)
    assert run("evaluate", trained, "--data", tmp_path / "a.wav")["compared_with"] == str(tmp_path / "a.wav")
    assert (trained / "report-a-wav.html").is_file()
    fields = {"kind": InputError, "file": "example:digits", "expected": "sounds", "found": "images"}
    refuse("evaluate", trained, "--data", "example:digits", **fields)


def test_it_draws_nothing(trained):
    for command, *words in (("sample", "-n", 1), ("evaluate", "--samples", "x.npz"), ("audit",)):
        assert "vocoder" in str(refuse(command, trained, *words))


def test_a_stop_changes_nothing(voices, tmp_path, monkeypatch):
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
        whole, paused = (load_tensors(getattr(open_run(name), file))[0] for name in ("whole", "paused"))
        assert whole.keys() == paused.keys()
        assert all(torch.equal(whole[key], paused[key]) for key in whole)


def test_only_a_vocoder_begins_with_one(voices, trained, tmp_path):
    out = ("--start-from", trained, "--steps", 1, "--out", tmp_path / "run")
    refuse("fit", "example:digits", "--size", "tiny", *out, kind=InputError, expected="sounds", found="images")
    for recipe in ("distil", "auto"):
        refuse("fit", voices, "--recipe", recipe, *out)
    assert run("fit", voices, *TINY, *out)["steps"] == 1


def test_what_it_cannot_be_is_refused(voices, tmp_path):
    out = ("--steps", 1, "--out", tmp_path / "run")
    refuse("fit", "example:digits", "--recipe", "vocoder", *out, remedy="Use --recipe auto")
    refuse("fit", tmp_path, "--recipe", "vocoder", *out, kind=InputError, file=str(tmp_path), found="none")
    fit = ("fit", voices, *TINY, *out)
    refuse(*fit, "--architecture.mel.hop-length", 160, found="hop 160 at 8000 Hz")
    refuse(*fit, "--objective.segment-size", 8, found="8")
    refuse(*fit, "--epsilon", 8)
    assert not (tmp_path / "run" / "model.json").exists()


def test_a_run_is_a_vocoder(trained):
    mel = MelConfig.default_for(8_000)
    wanted = torch.full((9, 40), -5.0)
    made = load_vocoder(str(trained), mel).synthesize(wanted, mel)
    assert made.shape == (720,)
    assert torch.equal(made, load_vocoder(str(trained), mel).synthesize(wanted, mel))
    with refuses(InputError, remedy="Fit another vocoder"):
        load_vocoder(str(trained), MelConfig())


def test_a_run_of_something_else_is_none(tmp_path):
    moons = str(tmp_path / "moons")
    run("fit", "example:moons", "--size", "tiny", "--steps", 1, "--out", moons)
    with refuses(UsageError, file=moons):
        load_vocoder(moons, MelConfig())
