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


def network() -> HiFiGANNetwork:
    made = HiFiGANNetwork(SETTINGS, 40)
    for i, weight in enumerate(made.parameters()):
        weight.data = 0.3 * Rng(0).stream("weight", i).normal(weight.shape)
    return made


def folder(place: pathlib.Path, config: Any = CONFIG, name: str = "generator.safetensors") -> pathlib.Path:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    save_tensors(place / name, network().state_dict())
    return place


def test_griffin_lim_has_a_name() -> None:
    assert load_vocoder("griffin-lim", MEL) == GriffinLim()
    assert load_vocoder("griffin-lim:7", MEL) == GriffinLim(7)
    for wrong in ("griffin-lim:", "griffin-lim:0", "griffin-lim:x", "griffin-lim:-3", "griffin-lim:99999"):
        with pytest.raises(UsageError, match="griffin-lim:ITERATIONS, from 1 to 10,000; found griffin-lim:"):
            load_vocoder(wrong, MEL)


@pytest.mark.parametrize("config", [CONFIG, {**CONFIG, **SAID}])
def test_weights_of_others_make_sounds(tmp_path: pathlib.Path, config: Any) -> None:
    place = folder(tmp_path / "hifigan", config)
    wanted = Rng(0).stream("mel").normal((6, 40))
    made = load_vocoder(str(place), MEL).synthesize(wanted, MEL)
    with torch.no_grad():
        assert torch.equal(made, network().synthesize(wanted[None])[0])
    assert made.shape == (480,)
    assert torch.equal(load_vocoder(str(place / "generator.safetensors"), MEL).synthesize(wanted, MEL), made)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"upsample_rates": [5, 4, 2]}, r"product 80 \(hop length\); found \(5, 4, 2\)"),
        ({"num_mels": 80}, "for other log mels than those of the model: expected num_mels 40; found 80"),
        ({"sampling_rate": 16000, "fmax": 8000}, "sampling_rate 8000; found 16000, fmax 4000; found 8000"),
        ({"fmin": 20}, "expected fmin 0; found 20"),
        ({"resblock": "2"}, "residual blocks of version 1; found 2"),
        ({"upsample_initial_channel": 16}, "the generator of config.json"),
        ({"upsample_initial_channel": 10**12}, "lists of at most 16 numbers up to 8,192"),
        ({"resblock_dilation_sizes": [[1] * 99]}, "lists of at most 16 numbers up to 8,192"),
        ({"upsample_initial_channel": "8"}, "expected int; found '8'"),
        ({"upsample_rates": 5}, "config.json"),
        ({"resblock_kernel_sizes": [4]}, "odd kernels"),
    ],
)
def test_other_settings_are_refused(tmp_path: pathlib.Path, change: dict[str, Any], told: str) -> None:
    place = folder(tmp_path / "hifigan", {**CONFIG, **change})
    with pytest.raises(InputError, match=told) as caught:
        load_vocoder(str(place), MEL)
    assert "\n" not in str(caught.value)


def test_other_bands_are_refused(tmp_path: pathlib.Path) -> None:
    mel = MelConfig(8_000, 512, 320, 80, 39, 4_000)
    with pytest.raises(InputError, match=r"with 39 bands: 1 tensors differ, such as conv_pre.weight"):
        load_vocoder(str(folder(tmp_path / "hifigan")), mel)


def test_settings_that_are_missing_are_named(tmp_path: pathlib.Path) -> None:
    config = {name: value for name, value in CONFIG.items() if name != "upsample_rates"}
    for wrong in (config, [1], "x"):
        with pytest.raises(InputError, match=r"the HiFi-GAN settings .*found no upsample_rates"):
            load_vocoder(str(folder(tmp_path / "hifigan", wrong)), MEL)
    (tmp_path / "hifigan" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"not valid JSON"):
        load_vocoder(str(tmp_path / "hifigan"), MEL)
    (tmp_path / "hifigan" / "config.json").unlink()
    with refuses(InputError, found="none"):
        load_vocoder(str(tmp_path / "hifigan"), MEL)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (self.place,)


@pytest.mark.parametrize("name", ["g.pt", "g.pth", "pytorch_model.bin", "g.ckpt", "G.PT"])
def test_pickles_are_refused_unread(tmp_path: pathlib.Path, name: str) -> None:
    place = tmp_path / "stranger"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    torch.save(Trap(tmp_path / "executed"), place / name)
    for asked in (place, place / name):
        with pytest.raises(InputError, match=r"is a pickle.*\. Convert it") as caught:
            load_vocoder(str(asked), MEL)
        assert "save_file" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_what_is_none_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"expected griffin-lim, .*found vocos"):
        load_vocoder("vocos", MEL)
    with pytest.raises(InputError, match=r"expected a run, or config.json"):
        load_vocoder(str(tmp_path), MEL)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected a .safetensors file"):
        load_vocoder(str(tmp_path / "a.txt"), MEL)
    place = folder(tmp_path / "two")
    folder(place, name="other.safetensors")
    with pytest.raises(UsageError, match=r"expected a single .safetensors file; found 2\. Name one"):
        load_vocoder(str(place), MEL)
    (place / "other.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"damaged"):
        load_vocoder(str(place / "other.safetensors"), MEL)
