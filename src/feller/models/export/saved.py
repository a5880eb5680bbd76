"""A model of own parts as a run folder, which every command opens."""

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
from feller.core.run_folder import Run, is_occupied, target_run
from feller.core.safetensors_io import load_weights
from feller.core.serialization import to_dict
from feller.core.user_code import fingerprint, import_path
from feller.data.examples.loaders import EXAMPLES
from feller.data.examples.registry import EXAMPLE
from feller.models.export.user_network import trial
from feller.models.model import Model
from feller.models.spec import Description, save_description
from feller.networks.architecture import Architecture
from feller.networks.external import Foreign, ForeignDecoder, ForeignNetwork
from feller.networks.inner_networks import evaluation_mode, plain_network
from feller.training.batch_checks import describe
from feller.training.checkpoint import save_checkpoint
from feller.training.loop import make_train_state
from feller.training.objective import ObjectiveConfig
from feller.training.objectives.autoregressive_likelihood import NextToken
from feller.training.optimizer import Training

CLOSE = 1e-4
"""Share of the largest number by which a network that was built anew may answer otherwise."""
ONCE = Training(steps=1)
"""Stands for the training of a model that was not fitted here, of which nothing is known."""
Make = Callable[..., Any]


def save_model(
    model: Model,
    out: str,
    *,
    make: Make | Architecture | None = None,
    data: str | os.PathLike[str] = "",
    test: str | os.PathLike[str] = "",
    overwrite: bool = False,
) -> Run:
    """Write a model as a run; arguments and errors as for `Model.save`."""
    data, test = _place("data", data), _place("test", test)
    if test and not data:
        raise UsageError(argument="data", expected="what the model learned from, beside test", found="none")
    if is_occupied(pathlib.Path(out)) and not overwrite:
        remedy = "Name another folder, or say overwrite=True"
        raise UsageError(
            argument="out", expected="a folder without a run", found=f"{out}, which is there", remedy=remedy
        )
    about, weights = _recorded(model, make)
    foreign = about.architecture if isinstance(about.architecture, Foreign) else None
    place = "" if foreign is None else import_path(foreign.make, "make")
    described = to_dict(about)  # what no record can hold is told before there is a folder
    recipe = recipe_record(about, model.objective)
    network = _rebuilt(model, about, weights)
    found = {
        "recipe": place or described["architecture"]["is"],
        "size": "small",
        "code": fingerprint(pathlib.Path(place.rpartition(":")[0])) if place else "",
        "held_out": 0.0,
        "test": test,
    }
    run = target_run(out, "", resume=False, overwrite=overwrite)
    with run.acquire(resume=False, overwrite=overwrite):
        save_checkpoint(run, make_train_state(network.requires_grad_(True), ONCE))
        asked = {"config": {"data": data} if data else {}, "provenance": found}
        run.write_record(run.recipe, {**asked, "recipe": recipe, "brought": {"saved": True}})
        save_description(run, about)  # last: with it the folder is a run
    return run


def _place(argument: str, place: Any) -> str:
    """Return where data are, as a run remembers it."""
    expected = "a file, a folder or example:NAME, which commands read again"
    if not isinstance(place, str | os.PathLike):
        remedy = "Write the rows to a file, and name that"
        raise UsageError(argument=argument, expected=expected, found=describe(place), remedy=remedy)
    place = os.fspath(place)
    name = place.removeprefix(EXAMPLE).partition("/")[0]
    if place and not (name in EXAMPLES if place.startswith(EXAMPLE) else pathlib.Path(place).exists()):
        raise UsageError(argument=argument, expected=expected, found=repr(place))
    return place


def recipe_record(about: Description, objective: ObjectiveConfig | None) -> dict[str, Any]:
    """Return what is known of how a model came about that was not fitted here; the rest is absent.

    Args:
        about: The model.
        objective: What it was trained with; None where that is not known.

    Raises:
        UsageError: If such a model is none that can be saved.
        InputError: If no record can hold the objective.
    """
    if not about.family.in_time and about.family.name != NextToken.family:
        raise UsageError(f"a model that {about.family.describe()} is saved by the fit that makes it")
    known = {} if objective is None else {"objective": to_dict(objective)}
    return {"architecture": to_dict(about.architecture), **known, "sampling": to_dict(about.sampling)}


def _recorded(model: Model, make: Make | Architecture | None) -> tuple[Description, dict[str, Tensor]]:
    """Return a description that a record can hold, and the weights of the network that it builds."""
    about, network = model.description, model.network
    if not isinstance(network, ForeignNetwork | ForeignDecoder):
        if make is not None:
            raise UsageError(
                f"the model knows what makes its network, {type(about.architecture).__name__}", remedy="Leave make out"
            )
        return about, network.state_dict()
    inner = plain_network(network.inner)
    if isinstance(make, Architecture):
        if not isinstance(inner, nn.Module):
            raise UsageError(f"{type(make).__name__} makes a module, and the network is a {type(inner).__name__}")
        return replace(about, architecture=make), inner.state_dict()
    if make is None:
        kind = type(inner)
        if not isinstance(inner, nn.Module):
            raise UsageError(
                "a run remembers what makes a network", remedy="Give make, a function of a file that returns it"
            )
        if kind.__module__.partition(".")[0] == "feller":
            raise UsageError(f"give make, what has built the {kind.__name__}, such as feller.MLP(width=64, depth=2)")
        make = kind
    settings = replace(network.settings, make=make)
    if not isinstance(inner, nn.Module):
        return replace(about, architecture=settings), network.state_dict()
    return replace(about, architecture=settings), {f"inner.{name}": part for name, part in inner.state_dict().items()}


def _rebuilt(model: Model, about: Description, weights: dict[str, Tensor]) -> nn.Module:
    """Return the network as whoever opens the run will have it."""
    what = "what makes the network"
    try:
        network = about.build(Rng(0)).eval()
        load_weights({name: weight.detach().cpu() for name, weight in weights.items()}, network)
    except TypeError as error:
        raise UsageError(
            f"{what} wants arguments ({error})", remedy="Give make, a function of a file without any"
        ) from error
    except RuntimeError as error:
        raise UsageError(f"{what} makes one of other weights ({str(error).splitlines()[-1].strip()})") from error
    asked = trial(Model.of(about, network))
    theirs = next(model.network.parameters()).device
    with torch.no_grad(), evaluation_mode(model.network):
        ours = network(*asked)
        truth = model.network(*(tree_map(lambda leaf: leaf.to(theirs), part) for part in asked))
    for one, two in zip(leaves(ours), leaves(truth), strict=True):
        if bool((one - two.cpu()).abs().max() > CLOSE * two.abs().max().cpu().clamp(min=1e-3)):
            raise UsageError(f"{what} makes one that answers otherwise, though its weights are the same")
    return network
