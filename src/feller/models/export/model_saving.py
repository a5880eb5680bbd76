"""Writing of run folders for models that were fitted without a recipe."""

import copy
import os
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run, check_folder_path, is_occupied, target_run
from feller.core.safetensors_io import load_weights
from feller.core.serialization import to_dict
from feller.core.user_code import fingerprint, import_path, register_in_memory
from feller.data.examples.loaders import EXAMPLES
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.models.export.user_network import trial_inputs
from feller.models.model import Model
from feller.models.spec import ModelSpec, save_spec
from feller.networks.external import ExternalDecoder, ExternalNetwork, ExternalNetworkModule
from feller.networks.network_config import NetworkConfig
from feller.networks.unwrapping import evaluation_mode, unwrap_network
from feller.training.batch_checks import describe
from feller.training.checkpoint import save_checkpoint
from feller.training.loop import make_train_state
from feller.training.objective import ObjectiveConfig
from feller.training.objectives.next_token_prediction import NextTokenPrediction
from feller.training.optimizer import TrainConfig

REBUILD_TOLERANCE = 1e-4
"""Tolerance between the outputs of the original and the rebuilt network, relative to the largest output value."""
ONCE = TrainConfig(steps=1)
"""Placeholder for the unknown training settings of a model that was fitted without a recipe."""
NetworkFactory = Callable[..., Any]


def save_model(
    model: Model,
    out: str,
    *,
    make: NetworkFactory | NetworkConfig | None = None,
    data: str | os.PathLike[str] = "",
    test: str | os.PathLike[str] = "",
    overwrite: bool = False,
    reference: str = "",
) -> Run:
    """Write a model as a run folder; arguments and errors as for `Model.save`.

    `reference` is the recorded name of a function `make` in memory; empty to record the file that defines `make`.
    """
    check_folder_path("out", out)
    data, test = _place("data", data), _place("test", test)
    if test and not data:
        raise UsageError(argument="data", expected="the training data, because `test` is given", found="none")
    if is_occupied(pathlib.Path(out)) and not overwrite:
        remedy = "Use another folder, or overwrite=True"
        raise UsageError(
            argument="out", expected="a folder without a run", found=f"{out}, which contains a run", remedy=remedy
        )
    spec, weights = _recordable_spec(model, make)
    external = spec.architecture if isinstance(spec.architecture, ExternalNetwork) else None
    make_path = "" if external is None else reference or import_path(external.make, "make")
    spec_record = to_dict(spec)  # raises before the folder is created
    recipe = recipe_record(spec, model.objective)
    network = _rebuild_network(model, spec, weights)
    provenance = {
        "recipe": make_path or spec_record["architecture"]["is"],
        "size": "small",
        "code": fingerprint(pathlib.Path(make_path.rpartition(":")[0])) if make_path and not reference else "",
        "held_out": 0.0,
        "test": test,
    }
    run = target_run(out, "", resume=False, overwrite=overwrite)
    with run.acquire(resume=False, overwrite=overwrite):
        save_checkpoint(run, make_train_state(network.requires_grad_(True), ONCE))
        record = {"config": {"data": data} if data else {}, "provenance": provenance}
        run.write_record(run.recipe, {**record, "recipe": recipe, "brought": {"saved": True}})
        save_spec(run, spec)  # written last: it makes the folder a run
    return run


def save_for_this_process(model: Model, out: str) -> Run:
    """Write a model as a run folder that this process can open, even if no file defines the network.

    If the network cannot be built from a file, the run refers to the network in memory; other processes cannot open it.
    """
    try:
        return save_model(model, out)
    except UsageError:
        inner = unwrap_network(getattr(model.network, "inner", None))
        if not isinstance(model.network, ExternalNetworkModule | ExternalDecoder) or not isinstance(inner, nn.Module):
            raise

    def make() -> nn.Module:
        return copy.deepcopy(inner)

    return save_model(model, out, make=make, reference=register_in_memory(make, type(inner).__name__))


def _place(argument: str, location: Any) -> str:
    """Return the path or example name of the data, as a run records it; UsageError if it is neither.

    `argument` is the name of the argument in the error.
    """
    expected = "a file, a folder or example:NAME"
    if not isinstance(location, str | os.PathLike):
        remedy = "Write the rows to a file, and pass its path"
        raise UsageError(argument=argument, expected=expected, found=describe(location), remedy=remedy)
    location = os.fspath(location)
    name = location.removeprefix(EXAMPLE_PREFIX).partition("/")[0]
    if location and not (name in EXAMPLES if location.startswith(EXAMPLE_PREFIX) else pathlib.Path(location).exists()):
        raise UsageError(argument=argument, expected=expected, found=repr(location))
    return location


def recipe_record(about: ModelSpec, objective: ObjectiveConfig | None) -> dict[str, Any]:
    """Return the settings of a model that was fitted without a recipe, in the format of a run folder's record.

    Unknown settings are absent.

    Args:
        about: Specification of the model.
        objective: Training objective; None if unknown.

    Raises:
        UsageError: If models of this family cannot be saved.
        InputError: If the objective cannot be serialised.
    """
    if not about.family.is_process and about.family.name != NextTokenPrediction.family:
        raise UsageError(f"a model that {about.family.describe()} can only be saved by its own fit")
    recorded = {} if objective is None else {"objective": to_dict(objective)}
    return {"architecture": to_dict(about.architecture), **recorded, "sampling": to_dict(about.sampling)}


def _recordable_spec(model: Model, make: NetworkFactory | NetworkConfig | None) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Return a specification that can be stored in a run, and the weights for the network that it builds."""
    spec, network = model.spec, model.network
    if not isinstance(network, ExternalNetworkModule | ExternalDecoder):
        if make is not None:
            raise UsageError(
                f"the model already has an architecture, {type(spec.architecture).__name__}", remedy="Leave out `make`"
            )
        return spec, network.state_dict()
    inner = unwrap_network(network.inner)
    if isinstance(make, NetworkConfig):
        if not isinstance(inner, nn.Module):
            raise UsageError(
                f"{type(make).__name__} builds a torch module, but the network is a {type(inner).__name__}"
            )
        return replace(spec, architecture=make), inner.state_dict()
    if make is None:
        cls = type(inner)
        if not isinstance(inner, nn.Module):
            raise UsageError(
                "a run needs a function that builds the network",
                remedy="Pass `make`, a function in a file that returns the network",
            )
        if cls.__module__.partition(".")[0] == "feller":
            raise UsageError(
                f"pass `make`, the architecture that built the {cls.__name__}, such as feller.MLP(width=64, depth=2)"
            )
        make = cls
    config = replace(network.config, make=make)
    if not isinstance(inner, nn.Module):
        return replace(spec, architecture=config), network.state_dict()
    return replace(spec, architecture=config), {f"inner.{name}": weight for name, weight in inner.state_dict().items()}


def _rebuild_network(model: Model, spec: ModelSpec, weights: dict[str, Tensor]) -> nn.Module:
    """Rebuild the network as it will be loaded from the run, and check its outputs."""
    subject = "the function that builds the network"
    try:
        network = spec.build(Rng(0)).eval()
        load_weights({name: weight.detach().cpu() for name, weight in weights.items()}, network)
    except TypeError as error:
        raise UsageError(
            f"{subject} needs arguments ({error})", remedy="Pass `make`, a function without arguments"
        ) from error
    except RuntimeError as error:
        raise UsageError(
            f"{subject} returns a network with different weights ({str(error).splitlines()[-1].strip()})"
        ) from error
    inputs = trial_inputs(Model.from_spec(spec, network))
    device = next(model.network.parameters()).device
    with torch.no_grad(), evaluation_mode(model.network):
        outputs = network(*inputs)
        expected = model.network(*(tree_map(lambda leaf: leaf.to(device), tree) for tree in inputs))
    for a, b in zip(leaves(outputs), leaves(expected), strict=True):
        if bool((a - b.cpu()).abs().max() > REBUILD_TOLERANCE * b.abs().max().cpu().clamp(min=1e-3)):
            raise UsageError(
                f"with the weights of the trained network, the network that {subject} returns gives other outputs",
                remedy="Build the same network as in training, with all its state in parameters and buffers",
            )
    return network
