"""Folders that `save_pretrained` of diffusers and transformers wrote: configurations and safetensors weights.

Nothing of a folder is executed: classes are looked up in lists of known names, and pickled weights are refused.
"""

import functools
import hashlib
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, found_instead, message_of
from feller.core.optional_dependency import require_package
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_shapes, load_tensors

INDEX, CONFIG = "model_index.json", "config.json"
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".msgpack")
"""Suffixes of files with weights that may be pickled."""
SHARD_INDEX = ".safetensors.index.json"
MAX_SIZE = 2**24
"""Largest size in a configuration."""
KINDS = {int: f"an integer from 1 to {MAX_SIZE:,}", list: "a list of such integers", dict: "an object"}
MAX_CONSTANTS = 10**8
"""Number of constants that a network may have in any case."""
CODE_SETTINGS = ("auto_map", "attn_implementation", "experts_implementation", "fusion_config", "kernel_config")
"""Parts of the names of settings of transformers by which a configuration chooses code, which may be downloaded."""


def read_config(file: pathlib.Path) -> dict[str, Any]:
    """Return the content of a JSON file of a folder.

    Raises:
        InputError: If the file is missing, or is not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "Write the folder with save_pretrained"
        raise InputError(f"a folder with {file.name}", "none", remedy, file=file.parent) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("a JSON file", message_of(error, 200), file=file) from error
    if not isinstance(content, dict):
        raise InputError("a JSON object", type(content).__name__, file=file)
    return content


def check_settings(file: pathlib.Path, settings: Mapping[str, Any], **kinds: tuple[type, ...]) -> None:
    """Check settings of a configuration: integers from 1 to `MAX_SIZE`, lists of them and objects; None is accepted.

    Args:
        file: File with the configuration.
        settings: Its content.
        kinds: Types of each checked setting.

    Raises:
        InputError: If a setting has another type, or is not positive or too large.
    """
    for key, types in kinds.items():
        value = settings.get(key)
        numbers = value if isinstance(value, list) else [value]
        is_known = isinstance(value, types) and (isinstance(value, dict) or all(map(_is_size, numbers)))
        if value is not None and (not is_known or not numbers):
            expected = " or ".join(KINDS[kind] for kind in types)
            raise InputError(expected, found_instead(value), "Copy the whole folder again", argument=key, file=file)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def component_class(
    folder: pathlib.Path, index: Mapping[str, Any], name: str, known: Collection[str], *, optional: bool = False
) -> str | None:
    """Return the class name of a component of a pipeline, or None if it is optional and left out.

    Args:
        folder: Folder of the pipeline.
        index: Content of its model_index.json.
        name: Name of the component, such as `vae`.
        known: Names of the classes that are known.
        optional: Whether the component may be left out.

    Raises:
        InputError: If the component is missing, or its class is unknown.
    """
    entry = index.get(name)
    is_entry = isinstance(entry, list) and len(entry) == 2
    if not is_entry or entry[1] is None or not (folder / name).is_dir():
        if optional and (not is_entry or entry[1] is None):
            return None
        remedy = "Save the whole pipeline with save_pretrained"
        raise InputError(f"a pipeline with {name}", "none", remedy, file=folder)
    library, class_name = map(str, entry)
    if library not in ("diffusers", "transformers") or class_name not in known:
        found = f"{library}.{class_name}"
        raise InputError(f"one of {', '.join(sorted(known))} as {name}", found, file=folder / INDEX)
    return class_name


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the safetensors files of a folder: one file, or the shards that an index lists.

    Raises:
        InputError: If there are none, the weights are pickled, or shards of the index are missing.
    """
    index = next(iter(sorted(folder.glob(f"*{SHARD_INDEX}"))), None)
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("."))
    if index is None:
        if len(files) > 1:  # variants, such as fp16
            plain = [file for file in files if file.stem.count(".") == 0 and "-of-" not in file.stem]
            files = plain if len(plain) == 1 else files
        if len(files) == 1:
            return files
        if files:
            found, remedy = f"{len(files)} files and no index", "Copy the index of the shards, or leave one file"
            raise InputError("one .safetensors file, or shards with their index", found, remedy, file=folder)
        is_pickled = folder.is_dir() and any(file.suffix in PICKLED for file in folder.iterdir())
        found = "pickled weights, which could execute code" if is_pickled else "none"
        raise InputError("weights in .safetensors", found, "Write them again with save_pretrained", file=folder)
    shards = read_config(index).get("weight_map")
    names = [*shards.values()] if isinstance(shards, dict) else []
    if not names or not all(isinstance(name, str) and _is_file_name(name) for name in names):
        raise InputError("an index with the file of each weight", "none", "Copy the whole folder again", file=index)
    names = sorted({*names})
    if missing := [name for name in names if not (folder / name).is_file()]:
        found, remedy = f"{len(missing)} missing, such as {missing[0]}", "Copy the whole folder again"
        raise InputError(f"the {len(names)} shards of its index", found, remedy, file=folder)
    return [folder / name for name in names]


def _is_file_name(name: str) -> bool:
    """Return True for the name of a file in the same folder."""
    return (
        pathlib.PurePath(name).name == name not in ("", "..")
        and "\0" not in name
        and len(name.encode(errors="replace")) < 256
    )


def check_weight_shapes(
    folder: pathlib.Path,
    settings: Mapping[str, Any],
    build: Callable[[], nn.Module],
    present_names: Callable[[nn.Module], Mapping[str, str]] = lambda network: {},
) -> None:
    """Check names and shapes of the weights of a folder, before memory is used for the network.

    Args:
        folder: Folder with safetensors weights.
        settings: Configuration of the network.
        build: Builds the network on the meta device.
        present_names: Returns the present names of weights of a network that have others in old folders.

    Raises:
        InputError: If the weights are not those of the network, or it has large constants that are not in the file.
    """
    shapes = {name: shape for file in weight_files(folder) for name, shape in load_shapes(file).items()}
    _check_layers(folder, settings, len(shapes))
    network = build()
    renamed = present_names(network)
    shapes = {renamed.get(name, name): shape for name, shape in shapes.items()}
    own = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    if names := sorted(name for name in own.keys() | shapes.keys() if own.get(name) != shapes.get(name)):
        found, remedy = f"{len(names)} others, such as {names[0]}", "Copy the whole folder again"
        raise InputError(f"the weights of its {type(network).__name__}", found, remedy, file=folder)
    constants = sum(buffer.numel() for name, buffer in network.named_buffers() if name not in own)
    if constants > max(MAX_CONSTANTS, sum(map(math.prod, shapes.values()))):
        raise InputError("constants that are not larger than the weights", f"{constants:,} numbers", file=folder)


def check_weight_count(
    folder: pathlib.Path, settings: Mapping[str, Any], weights: Mapping[str, Tensor], build: Callable[[], nn.Module]
) -> None:
    """Check that a network has no more weights than its folder, before memory is used for it.

    Args:
        folder: Folder of the weights.
        settings: Configuration of the network.
        weights: Weights of the folder; they may have other names, and tied ones are there once.
        build: Builds the network on the meta device.

    Raises:
        InputError: If it has more weights or layers.
    """
    _check_layers(folder, settings, len(weights))
    num_expected = sum(weight.numel() for weight in build().parameters())
    if num_expected > 2 * (total := sum(weight.numel() for weight in weights.values())):
        found, remedy = f"{total:,} numbers", "Copy the whole folder again"
        raise InputError(f"{num_expected:,} weights, as in {CONFIG}", found, remedy, file=folder)


def _check_layers(folder: pathlib.Path, settings: Mapping[str, Any], num_weights: int) -> None:
    """Check that a configuration has at most as many layers as there are weights."""
    for key, value in settings.items():
        is_number_of_layers = "layer" in key and not key.startswith("max")  # `max_window_layers` may be larger
        if is_number_of_layers and (count := _largest(value)) > num_weights:
            expected, remedy = f"at most {num_weights} layers, the number of weights", "Copy the whole folder again"
            raise InputError(expected, count, remedy, argument=key, file=folder / CONFIG)


def _largest(value: object) -> int:
    """Return the largest integer in nested lists; 0 if there is none."""
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0


def load_folder_weights(folder: pathlib.Path) -> dict[str, Tensor]:
    """Return the weights in the safetensors files of a folder.

    Raises:
        InputError: As for `weight_files`, or if the index of shards names other weights.
    """
    weights: dict[str, Tensor] = {}
    files = weight_files(folder)
    for file in files:
        weights |= load_tensors(file)[0]
    index = next(iter(sorted(folder.glob(f"*{SHARD_INDEX}"))), None)
    if index is not None and (names := {*read_config(index)["weight_map"]}) != weights.keys():
        found = f"{len(names ^ weights.keys())} others, such as {min(names ^ weights.keys())}"
        raise InputError("shards with the weights of their index", found, "Copy the whole folder again", file=index)
    return weights


def digest_of(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> str:
    """Return the SHA-256 hash of files of a folder, by their names and contents; unchanged files are hashed once."""
    stamps = ((status.st_size, status.st_mtime_ns) for status in map(pathlib.Path.stat, files))
    return _digest(folder, tuple(files), tuple(stamps))


@functools.lru_cache(maxsize=8)
def _digest(folder: pathlib.Path, files: tuple[pathlib.Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    """Return the hash of files; `stamps` are their sizes and times of change."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            name = file.relative_to(folder).as_posix()
            total.update(name.encode() + b"\0" + hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def copy_own_file(folder: pathlib.Path, file: pathlib.Path, place: pathlib.Path) -> None:
    """Copy a file of a folder, which may be a symlink into the `blobs` of a hub cache.

    Raises:
        InputError: If the file is a link to a file elsewhere, which may be private.
    """
    root, real = folder.resolve(), file.resolve()
    blobs = (parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots")
    if not any(real.is_relative_to(own) for own in (root, *blobs)):
        raise InputError("a file of the folder", "a link to another place", "Replace it by a copy", file=file)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(real, place)


def check_outside(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Check that a new folder is not inside a folder whose files it takes.

    Raises:
        UsageError: If it is, or is the same folder.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        expected = f"a folder outside of {folder}, whose files are copied"
        raise UsageError(argument="out", expected=expected, found=str(out), remedy="Use another folder")


def is_pretrained_folder(path: str) -> bool:
    """Return True if a path is a folder that `save_pretrained` may have written, and not a run."""
    folder = pathlib.Path(path)
    is_run = Run(folder).model.is_file()
    return folder.is_dir() and not is_run and any((folder / name).is_file() for name in (INDEX, CONFIG))


def require_pretrained_folder(path: str) -> None:
    """Check that a path is a folder that `save_pretrained` wrote.

    Raises:
        UsageError: If it is not; names of models on a hub are not downloaded.
    """
    folder = pathlib.Path(path)
    if is_pretrained_folder(path):
        return
    remedy = "Write the folder with save_pretrained, or name your own network as FILE.py:FUNCTION"
    if not folder.exists():
        found = "none"
        remedy = "feller downloads no models from a hub: give the path of a folder that you downloaded"
    elif not folder.is_dir():
        found = "a file"
    elif Run(folder).model.is_file():
        found, remedy = "a run", "It needs no import"
    else:
        found = f"a folder without {INDEX} and {CONFIG}" if any(folder.iterdir()) else "an empty folder"
    raise UsageError(expected="a folder that save_pretrained wrote", found=found, remedy=remedy, file=path)


def require_transformers(purpose: str, extra: str = "pretrained") -> Any:
    """Import transformers, which then shows errors only, and return it.

    Raises:
        NotInstalledError: If it is not installed; `purpose` is the start of the message.
    """
    transformers = require_package("transformers", purpose, extra)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def without_code(settings: Any) -> Any:
    """Return the settings of a configuration of transformers, at all depths, without those that choose code."""
    if isinstance(settings, dict):
        kept = {key: value for key, value in settings.items() if not any(part in str(key) for part in CODE_SETTINGS)}
        return {key: without_code(value) for key, value in kept.items()}
    return [without_code(value) for value in settings] if isinstance(settings, list) else settings


def config_without_code(model_class: Any, settings: Mapping[str, Any]) -> Any:
    """Return the configuration of a class of transformers, with the attention of PyTorch."""
    config = model_class.config_class.from_dict(without_code(settings))
    config._attn_implementation = "sdpa" if model_class._supports_sdpa else "eager"
    return config


def load_transformers(model_class: Any, config: Any, weights: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """Return a model of transformers with weights in float32, and notes on weights that are missing or unexpected.

    Transformers sees no folder, whose files could refer to pickled weights or to adapters of other models.
    """
    return model_class.from_pretrained(
        None, config=config, state_dict=dict(weights), dtype=torch.float32, output_loading_info=True
    )


def load_encoder(model_class: Any, folder: pathlib.Path, settings: Mapping[str, Any], unused: str | None = None) -> Any:
    """Return an encoder of transformers, with all weights from its folder.

    Args:
        model_class: Class of the encoder.
        folder: Folder of the weights.
        settings: Content of its config.json, which may be that of a whole model, such as CLIP.
        unused: Part of the names of weights that may be missing.

    Raises:
        ValueError: If weights are quantized or missing; transformers raises other types.
    """
    if settings.get("quantization_config") is not None:
        raise ValueError("quantized weights")
    own = settings.get(model_class.config_class.base_config_key) or settings
    model, notes = load_transformers(model_class, config_without_code(model_class, own), load_folder_weights(folder))
    if missing := [key for key in notes["missing_keys"] if unused is None or unused not in key]:
        raise ValueError(f"{len(missing)} weights are missing, such as {min(missing)}")
    return model


def require_diffusers(purpose: str) -> Any:
    """Import diffusers and transformers, which then show errors only, and return diffusers.

    Raises:
        NotInstalledError: If one of them is not installed; `purpose` is the start of the message.
    """
    require_transformers(purpose)
    diffusers = require_package("diffusers", purpose, "pretrained")
    diffusers.logging.set_verbosity_error()
    return diffusers
