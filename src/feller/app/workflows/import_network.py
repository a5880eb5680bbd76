"""Import workflow: create a run from a network of the user."""

import math
import pathlib
import re
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from feller.app.config import FitConfig, ImportConfig
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_config import FitRecord, ImportConventions, Provenance, data_fingerprint
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, target_run
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import to_dict
from feller.core.user_code import fingerprint, load_function
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points
from feller.models.export.model_saving import ONCE, recipe_record
from feller.models.export.user_network import (
    adapt_call,
    check_network,
    describe_network,
    modality_of_shape,
    number_kind,
)
from feller.models.families.path_process import PathProcess
from feller.models.spec import save_spec
from feller.networks.external import ExternalNetworkModule
from feller.paths import Affine, DataPrediction, NoisePrediction, Prediction, ScorePrediction, VelocityPrediction
from feller.paths.schedules import VP, Cosine, Linear, LinearVP, Schedule
from feller.training.checkpoint import save_checkpoint
from feller.training.loop import make_train_state

PREDICTIONS: dict[str, Prediction] = {
    **{
        "velocity": VelocityPrediction(),
        "data": DataPrediction(),
        "source": NoisePrediction(),
        "score": ScorePrediction(),
    },
    "noise": NoisePrediction(),
}
"""Name of the quantity that a network predicts -> network parameterisation; `noise` is a synonym of `source`."""
MAX_NUMBERS = 2**24
"""Maximum number of values per example; an RGB image of 2,048 by 2,048 pixels has fewer values."""
DIGITS = 9
MAX_CLASSES = 1_000_000
SCHEDULES: dict[str, type[Schedule]] = {"linear": Linear, "cosine": Cosine, "linear-vp": LinearVP, "vp": VP}


def import_network(config: ImportConfig, *, reporter: Reporter = SILENT) -> Run:
    """Create a run from a user's network, so that `sample`, `steer`, `tune` and `evaluate` work with it.

    The run records the name and hash of the code file. The code is only loaded from a file that the caller names.

    Args:
        config: Options of `feller import`.
        reporter: Progress and log output.

    Raises:
        UsageError: If an argument is wrong, or if the network modifies its input or returns a wrong shape or dtype.
        InputError: If a file is missing or damaged.
    """
    entry, data, text, times = config.place, config.data, config.modality, config.times
    for name, choices in ((config.predicts, PREDICTIONS), (config.schedule, SCHEDULES)):
        if name not in choices:
            raise UsageError.unknown_name("path", name, choices)
    if len(times) != 2 or not all(map(math.isfinite, times)):
        raise UsageError(
            "two times, the time of the source and the time of the data",
            " ".join(map(str, times)) or "none",
            argument="times",
        )
    class_names = _classes(config.classes)
    dataset = None if data is None else read(data)
    if text is None and dataset is None:
        raise UsageError(
            expected="a modality, such as points:2 or images:28x28, or training data with --data", argument="modality"
        )
    modality = dataset.modality if text is None and dataset is not None else parse_modality(text or "", class_names)
    if dataset is not None:
        modality = _match_data(modality, dataset.modality)
        dataset = dataset.with_modality(modality)
    path = Affine(SCHEDULES[config.schedule](), PREDICTIONS[config.predicts])
    function = load_function(entry, ())
    null_values = None if config.null is None else dict.fromkeys(modality.conditions or ("label",), config.null)
    model = adapt_call(
        describe_network(function, modality, family=PathProcess(path), times=(times[0], times[1]), null=null_values)
    )
    spec, network = model.spec, model.network
    if config.weights is not None:
        _load(network, pathlib.Path(config.weights))
    check_network(model)
    code_file = pathlib.Path(entry.rpartition(":")[0])
    provenance = Provenance(
        recipe=entry,
        size="small",
        held_out=0.0,
        code=fingerprint(code_file),
        fingerprint="" if dataset is None else data_fingerprint(dataset, None),
    )
    record = FitRecord(config=FitConfig(data=data), provenance=provenance)
    conventions = ImportConventions(
        **{
            field.name: getattr(config, field.name)
            for field in fields(ImportConventions)
            if hasattr(config, field.name)
        }
    )
    run = target_run(config.out, code_file.stem, resume=False, overwrite=config.overwrite)
    with run.acquire(resume=False, overwrite=config.overwrite):
        content: dict[str, Any] = {
            **record.content,
            "recipe": recipe_record(spec, None),
            "brought": to_dict(conventions),
        }
        save_checkpoint(run, make_train_state(network.requires_grad_(True), ONCE))
        run.write_record(run.recipe, content)
        save_spec(run, spec)  # last, because this file makes the folder a run
    count = sum(weight.numel() for weight in network.parameters())
    reporter.log(f"{entry}: {count:,} weights, {modality.display_name}; {run.path}")
    if config.weights is None and _learns(network):
        reporter.log(
            f"its weights are those of {entry} after construction, untrained unless that code loads them; pass others"
            " with --weights FILE.safetensors"
        )
    return run


def _match_data(modality: Modality, data_modality: Modality) -> Modality:
    """Return the modality that the user named, with the column names of the data; UsageError if the two differ."""
    if type(modality) is not type(data_modality):
        raise UsageError(
            f"is {modality.display_name}, but --data has {data_modality.display_name}", argument="modality"
        )
    if (points := modality.view(Points)) and (actual := data_modality.view(Points)):
        is_unnamed = points.columns == tuple(f"x{i + 1}" for i in range(len(points.columns)))
        if points.columns != actual.columns and not (is_unnamed and len(actual.columns) == len(points.columns)):
            raise UsageError(f"--data has the columns {', '.join(actual.columns)}", remedy="Use these column names")
        modality = replace(points, columns=actual.columns)
    if (images := modality.view(Images)) and (data_images := data_modality.view(Images)):
        shape, data_shape = ((m.height, m.width, m.channels, m.levels) for m in (images, data_images))
        if shape != data_shape:
            raise UsageError("--data has images:{}x{}x{}/{}; use this modality".format(*data_shape))
    if {*modality.conditions} - {*data_modality.conditions}:
        raise UsageError("--data has no classes", remedy="Leave it out", argument="classes")
    return modality


def parse_modality(text: str, classes: tuple[str, ...] = ()) -> Modality:
    """Parse the text of a modality, such as points:2 or images:28x28.

    `classes` contains the class names of the data; it is empty if the data have no classes.

    Raises:
        UsageError: If the text is not a modality.
    """
    name, _, shape = text.partition(":")
    match = re.fullmatch(r"(\d+)x(\d+)(?:x([13]))?(?:/(\d{1,3}))?", shape)
    if name == "images" and match:
        height, width, channels, levels = match.groups()
        _check_size(text, (height, width, channels or "1"))
        return Images(int(height), int(width), int(channels or 1), int(levels or 255), classes)
    columns = shape.split(",")
    if name == "points" and shape.isdecimal():
        _check_size(text, (shape,))
        if int(shape):
            return modality_of_shape((int(shape),), classes)
    if name == "points" and all(columns) and len({*columns}) == len(columns) and not shape.isdecimal():
        return Points(tuple(columns), (0.0,) * len(columns), (1.0,) * len(columns), classes)
    raise UsageError("points:2, points:x,y, images:28x28 or images:32x32x3", repr(text), argument="modality")


def _check_size(text: str, sides: tuple[str, ...]) -> None:
    """Raise an error for examples that do not fit into memory; integers of many digits are rejected without parsing."""
    if max(map(len, sides)) > DIGITS or math.prod(map(int, sides)) > MAX_NUMBERS:
        raise UsageError(
            f"examples of at most {MAX_NUMBERS:,} values", f"{text:.60}", "Use a smaller shape", argument="modality"
        )


def _classes(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the class names; a single number n stands for n unnamed classes."""
    if len(names) == 1 and names[0].isdecimal():
        if len(names[0]) > len(str(MAX_CLASSES)) or int(names[0]) > MAX_CLASSES:
            raise UsageError(
                f"at most {MAX_CLASSES:,} classes", f"{names[0]:.20}", "Use fewer classes", argument="classes"
            )
        return tuple(map(str, range(int(names[0]))))
    return names


def _learns(network: nn.Module) -> bool:
    """Return True if an imported network has parameters, so that it can be trained further."""
    inner = network.inner if isinstance(network, ExternalNetworkModule) else None
    return isinstance(inner, nn.Module) and next(inner.parameters(), None) is not None


def _load(network: nn.Module, file: pathlib.Path) -> None:
    if file.suffix != ".safetensors":
        raise InputError(
            "weights must be in a .safetensors file, which contains no code",
            remedy="Write the weights with safetensors.torch.save_file(network.state_dict(), ...)",
            file=file,
        )
    if not isinstance(network, ExternalNetworkModule) or not isinstance(network.inner, nn.Module):
        raise UsageError("contains weights, but the function did not return a torch.nn.Module", file=file)
    tensors, _ = load_tensors(file)
    state = network.inner.state_dict()
    names = sorted(state.keys() ^ tensors.keys()) or [
        name for name in state if state[name].shape != tensors[name].shape
    ]
    if names:
        raise InputError(
            f"contains weights of another network: {len(names)} entries differ, the first is {names[0]}", file=file
        )
    entry = next((name for name in state if number_kind(state[name]) != number_kind(tensors[name])), None)
    if entry is not None:
        raise InputError(
            f"contains {number_kind(tensors[entry])} for {entry}, but the network has {number_kind(state[entry])}",
            remedy="Save the weights with the dtypes of the network",
            file=file,
        )
    with torch.no_grad():
        network.inner.load_state_dict(tensors)
