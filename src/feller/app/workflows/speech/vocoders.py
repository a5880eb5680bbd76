"""Loading of vocoders (converters of log mel spectrograms to audio): a run, HiFi-GAN weights, or Griffin-Lim."""

import pathlib
from dataclasses import fields
from typing import Any

from feller.core.errors import InputError, UsageError, error_context
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import from_dict, read_json
from feller.data.speech.griffin_lim import MAX_ITERATIONS, GriffinLim, Vocoder
from feller.data.speech.mel import MelConfig
from feller.models.model import load_model
from feller.networks.audio.hifigan import HiFiGAN, load_generator
from feller.networks.audio.spectral_vocoder import NeuralVocoder, SpectralVocoder, SpectralVocoderNetwork

GRIFFIN_LIM = "griffin-lim"
WEIGHTS, CONFIG = ".safetensors", "config.json"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")
"""Suffixes of files in pickle format, which can execute code when they are loaded."""


def load_vocoder(place: str, settings: MelConfig) -> Vocoder:
    """Load a vocoder by name or path.

    Args:
        place: `griffin-lim` or `griffin-lim:ITERATIONS`; a run of the recipe `vocoder`; a folder with a HiFi-GAN
            generator, that is, a .safetensors file and `config.json`; or this .safetensors file.
        settings: Mel configuration of the model.

    Raises:
        InputError: If the run or the weights are damaged, or their mel configuration differs from `settings`.
        UsageError: If the name is unknown, or the run is not a vocoder.
    """
    name, colon, count = place.partition(":")
    if name == GRIFFIN_LIM:
        return _phases(count if colon else None)
    path = pathlib.Path(place)
    if not path.exists():
        raise UsageError(
            f"{GRIFFIN_LIM}, {GRIFFIN_LIM}:ITERATIONS, a vocoder run, or a folder with {CONFIG} and {WEIGHTS}",
            f"{place}, which does not exist",
        )
    if (path / "model.json").is_file():
        return _of_run(path, settings)
    return _of_weights(path, settings)


def _phases(count: str | None) -> GriffinLim:
    if count is None:
        return GriffinLim()
    if not count.isdecimal() or not 1 <= int(count) <= MAX_ITERATIONS:
        raise UsageError(f"{GRIFFIN_LIM}:ITERATIONS, from 1 to {MAX_ITERATIONS:,}", f"{GRIFFIN_LIM}:{count}")
    return GriffinLim(int(count))


def _of_run(path: pathlib.Path, mel_config: MelConfig) -> NeuralVocoder:
    model = load_model(Run(path))
    architecture, network = model.spec.architecture, model.network
    if not isinstance(architecture, SpectralVocoder) or not isinstance(network, SpectralVocoderNetwork):
        raise UsageError("not a vocoder run", remedy="Fit a vocoder: feller fit RECORDINGS --recipe vocoder", file=path)
    if architecture.mel != mel_config:
        raise InputError(
            f"a vocoder of log mels with {mel_config}", f"{path} with {architecture.mel}", "Fit another vocoder"
        )
    return NeuralVocoder(network.eval().requires_grad_(False), mel_config)


def _of_weights(path: pathlib.Path, mel_config: MelConfig) -> NeuralVocoder:
    """Load a pretrained HiFi-GAN generator, without executing code from its files."""
    file = _weights_in(path) if path.is_dir() else path
    if file.suffix.lower() != WEIGHTS:
        _refuse(file)
    config_path = file.parent / CONFIG
    with error_context(config_path):
        content = read_json(config_path)
        config = _parse_config(content)
        if config.hop != mel_config.hop_length:
            raise InputError(
                f"upsampling rates with the product {mel_config.hop_length} (hop length)", config.upsample_rates
            )
        _check_mel(content, mel_config)
    weights, _ = load_tensors(file)
    with error_context(file):
        return NeuralVocoder(load_generator(config, mel_config.n_mels, weights), mel_config)


def _weights_in(folder: pathlib.Path) -> pathlib.Path:
    """Return the path of the only weights file in a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    weight_files = [path for path in files if path.suffix.lower() == WEIGHTS]
    if len(weight_files) == 1:
        return weight_files[0]
    if weight_files:
        raise UsageError(
            f"a single {WEIGHTS} file",
            len(weight_files),
            f"Name one of the files, such as {weight_files[0]}",
            file=folder,
        )
    for path in files:
        if path.suffix.lower() in PICKLES:
            _refuse(path)
    raise InputError(f"a run, or {CONFIG} and one {WEIGHTS} file", "neither", file=folder)


def _refuse(file: pathlib.Path) -> None:
    """Raise an InputError for a weights file that is not .safetensors."""
    if file.suffix.lower() not in PICKLES:
        raise InputError(f"a {WEIGHTS} file, with {CONFIG} in its folder", f"the suffix {file.suffix!r}", file=file)
    raise InputError(
        "is a pickle, which can execute code when loaded",
        remedy=f"Convert it where you trust it: safetensors.torch.save_file(torch.load('{file.name}',"
        f" weights_only=True)['generator'], '{file.stem}{WEIGHTS}')",
        file=file,
    )


def _parse_config(config: Any) -> HiFiGAN:
    names = [field.name for field in fields(HiFiGAN)]
    missing = [name for name in names if not isinstance(config, dict) or name not in config]
    if missing:
        raise InputError(f"the HiFi-GAN settings {', '.join(names)}", f"no {missing[0]}")
    if str(config.get("resblock", "1")) != "1":
        raise InputError(
            "residual blocks of version 1", config["resblock"], "Use a generator with residual blocks of version 1"
        )
    return from_dict(HiFiGAN, {name: config[name] for name in names})


def _check_mel(config: dict[str, Any], mel_config: MelConfig) -> None:
    """Raise an InputError if weights were trained for another mel configuration."""
    expected = {
        "sampling_rate": mel_config.sample_rate,
        "n_fft": mel_config.n_fft,
        "win_size": mel_config.win_length,
        "hop_size": mel_config.hop_length,
        "num_mels": mel_config.n_mels,
        "fmin": 0,
        "fmax": mel_config.f_max,
    }
    recorded = {name: config[name] for name in expected if name in config}
    if "fmax" in recorded and recorded["fmax"] is None:
        recorded["fmax"] = mel_config.sample_rate // 2
    different = [name for name, value in recorded.items() if value != expected[name]]
    if different:
        differences = ", ".join(f"{name} {expected[name]}; found {recorded[name]}" for name in different)
        raise InputError(
            f"weights for other log mels than those of the model: expected {differences}",
            remedy="Use weights for the log mels of the model",
        )
