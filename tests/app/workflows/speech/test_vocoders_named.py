"""What a person names as a vocoder: Griffin-Lim, or weights of others, of whom nothing is executed."""

import json
import pathlib
from typing import Any

import pytest
import torch

from feller.app.workflows.speech.vocoders import load_vocoder
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.safetensors_io import save_tensors
from feller.data.speech.griffin_lim import GriffinLim
from feller.data.speech.mel import MelConfig
from feller.networks.audio.hifigan import HiFiGAN, HiFiGANNetwork
from tests.errors import refuses

MEL = MelConfig.default_for(8_000)
CONFIG: dict[str, Any] = {
    "resblock": "1",
    "upsample_rates": [5, 4, 4],
    "upsample_kernel_sizes": [11, 8, 8],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "batch_size": 16,
}
SETTINGS = HiFiGAN((5, 4, 4), (11, 8, 8), 8, (3,), ((1, 3),))
SAID = {"sampling_rate": 8000, "n_fft": 512, "win_size": 320, "hop_size": 80, "num_mels": 40, "fmin": 0, "fmax": None}


def network():
    made = HiFiGANNetwork(SETTINGS, 40)
    for i, weight in enumerate(made.parameters()):
        weight.data = 0.3 * Rng(0).stream("weight", i).normal(weight.shape)
    return made


def folder(place, config=CONFIG, name="generator.safetensors"):
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    save_tensors(place / name, network().state_dict())
    return place


def test_griffin_lim_has_a_name():
    assert load_vocoder("griffin-lim", MEL) == GriffinLim()
    assert load_vocoder("griffin-lim:7", MEL) == GriffinLim(7)
    for wrong in ("griffin-lim:", "griffin-lim:0", "griffin-lim:x", "griffin-lim:-3", "griffin-lim:99999"):
        with refuses(UsageError, found=wrong):
            load_vocoder(wrong, MEL)


@pytest.mark.parametrize("config", [CONFIG, {**CONFIG, **SAID}])
def test_weights_of_others_make_sounds(tmp_path, config):
    place = folder(tmp_path / "hifigan", config)
    wanted = Rng(0).stream("mel").normal((6, 40))
    made = load_vocoder(str(place), MEL).synthesize(wanted, MEL)
    with torch.no_grad():
        assert torch.equal(made, network().synthesize(wanted[None])[0])
    assert made.shape == (480,)
    assert torch.equal(load_vocoder(str(place / "generator.safetensors"), MEL).synthesize(wanted, MEL), made)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"upsample_rates": [5, 4, 2]}, ["80", "(5, 4, 2)"]),
        ({"num_mels": 80}, ["num_mels 40", "80"]),
        ({"sampling_rate": 16000, "fmax": 8000}, ["sampling_rate 8000", "16000", "fmax 4000", "8000"]),
        ({"fmin": 20}, ["fmin 0", "20"]),
        ({"resblock": "2"}, ["1", "2"]),
        ({"upsample_initial_channel": 10**12}, ["8,192", "1,000,000,000,000"]),
        ({"resblock_dilation_sizes": [[1] * 99]}, ["16", "99"]),
        ({"upsample_initial_channel": "8"}, ["upsample_initial_channel", "int", "'8'"]),
        ({"upsample_rates": 5}, ["upsample_rates"]),
        ({"resblock_kernel_sizes": [4]}, ["(4,)"]),
    ],
)
def test_other_settings_are_refused(tmp_path, change, named):
    config = folder(tmp_path / "hifigan", {**CONFIG, **change}) / "config.json"
    with refuses(InputError, file=str(config)) as caught:
        load_vocoder(str(config.parent), MEL)
    said = str(caught.value).removeprefix(str(config))
    assert [text for text in named if text not in said] == []


@pytest.mark.parametrize(("channels", "bands"), [(16, 40), (8, 39)])
def test_weights_of_another_size_are_refused(tmp_path, channels, bands):
    place = folder(tmp_path / "hifigan", {**CONFIG, "upsample_initial_channel": channels})
    with refuses(InputError, file=str(place / "generator.safetensors"), found="(8, 40, 7)") as caught:
        load_vocoder(str(place), MelConfig(8_000, 512, 320, 80, bands, 4_000))
    assert "conv_pre.weight" in str(caught.value)
    assert f"({channels}, {bands}, 7)" in str(caught.value)


def test_settings_that_are_missing_are_named(tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "upsample_rates"}
    file = tmp_path / "hifigan" / "config.json"
    for wrong in (config, [1], "x"):
        with refuses(InputError, file=str(file), found="no upsample_rates"):
            load_vocoder(str(folder(tmp_path / "hifigan", wrong)), MEL)
    file.write_text("{")
    with refuses(InputError, file=str(file)) as caught:
        load_vocoder(str(tmp_path / "hifigan"), MEL)
    assert "JSON" in str(caught.value)
    file.unlink()
    with refuses(InputError, file=str(file), found="none"):
        load_vocoder(str(tmp_path / "hifigan"), MEL)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (self.place,)


@pytest.mark.parametrize("name", ["g.pt", "g.pth", "pytorch_model.bin", "g.ckpt", "G.PT"])
def test_pickles_are_refused_unread(tmp_path, name):
    place = tmp_path / "stranger"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    torch.save(Trap(tmp_path / "executed"), place / name)
    for asked in (place, place / name):
        with refuses(InputError, file=str(place / name)) as caught:
            load_vocoder(str(asked), MEL)
        assert "pickle" in str(caught.value)
        assert "save_file" in str(caught.value.remedy)
    assert not (tmp_path / "executed").exists()


def test_what_is_none_is_told(tmp_path):
    with refuses(UsageError) as caught:
        load_vocoder("vocos", MEL)
    assert "vocos" in str(caught.value.found)
    assert "griffin-lim" in str(caught.value.expected)
    (tmp_path / "a.txt").write_text("x")
    for wrong in (tmp_path, tmp_path / "a.txt"):
        with refuses(InputError, file=str(wrong)) as caught:
            load_vocoder(str(wrong), MEL)
        assert "config.json" in str(caught.value.expected)
        assert ".safetensors" in str(caught.value.expected)
    place = folder(tmp_path / "two")
    folder(place, name="other.safetensors")
    with refuses(UsageError, file=str(place), found="2") as caught:
        load_vocoder(str(place), MEL)
    assert str(place / "generator.safetensors") in str(caught.value.remedy)
    damaged = place / "other.safetensors"
    damaged.write_bytes(b"x" * 100)
    with refuses(InputError, file=str(damaged)):
        load_vocoder(str(damaged), MEL)
