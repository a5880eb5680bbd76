"""Generation of random rows to test user code before it sees private rows, and lookup of the white level of images."""

import copy
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.pytree import num_examples, tree_map
from feller.core.rng import Rng
from feller.data.files.numpy_files import load_arrays
from feller.data.images import idx
from feller.data.images.image_loading import check_one_kind
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.array_formats import SAMPLES
from feller.data.loading.in_memory import DataSource, is_in_memory, plain_arrays, said_of
from feller.data.modality import Dataset, Modality, Target
from feller.data.tables.constraints import repair
from feller.data.tables.histories import Histories
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.objective import Objective

ROWS = 6
WEIGHT_NOISE = 0.05
"""Standard deviation of the noise added to the weights, because a new network may have the same loss for all rows."""
TOLERANCE = 1e-4
"""Tolerance, relative to the largest loss, for comparing losses in float32."""


def random_rows(data: Dataset, n: int, noise: Noise) -> Dataset:
    """Return n random table rows or images, whose values do not depend on the rows of `data`.

    All values, and the classes to predict, are drawn uniformly.

    Args:
        data: Dataset of which only the modality and the target are used. It is returned unchanged if its modality is
            neither a table nor images.
        n: Number of rows or images to generate.
        noise: Source of the random values.
    """
    targets = {} if data.target is None else _classes(data.target, n, noise)
    modality, table = data.modality, as_table(data).modality.view(Table)
    if table is not None:
        return Dataset(_random_codes(table, n, noise), {}, modality, properties=targets, target=data.target)
    if (histories := modality.view(Histories)) is not None:
        return Dataset(_random_histories(histories, n, noise), {}, modality)
    if (labelled := modality.view(LabelledImages)) is not None:
        values, cond = _pictures(labelled.images, n, noise)
        return Dataset({"image": values, "label": cond["label"]}, {}, modality, properties=targets, target=data.target)
    if (images := modality.view(Images)) is not None:
        values, cond = _pictures(images, n, noise)
        cond = {name: cond[name] for name in data.given}
        return Dataset(values, cond, modality, properties=targets, target=data.target)
    return data


def _random_codes(table: Table, n: int, noise: Noise) -> Tensor:
    codes = torch.stack([noise.randint(count, (n,)) for count in table.counts], 1)
    return torch.from_numpy(repair(codes.numpy(), table.schema.pairs, table.counts))


def _random_histories(histories: Histories, n: int, noise: Noise) -> Tensor:
    persons, max_rows = _random_codes(histories.persons, n, noise), histories.history.max_rows
    rows = _random_codes(histories.rows, n * max_rows, noise).unflatten(0, (n, max_rows))
    valid = torch.arange(max_rows) < histories.lengths(persons)[:, None]
    return torch.cat([persons, (rows * valid[..., None]).flatten(1)], 1)


def _classes(target: Target, n: int, noise: Noise) -> dict[str, Tensor]:
    return {name: noise.randint(len(target.classes), (n,)).double() for name in target.names if target.classes}


def _pictures(images: Images, n: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
    values = noise.randint(images.levels + 1, (n, images.channels, images.height, images.width)).to(torch.uint8)
    return values, {name: noise.randint(len(classes), (n,)) for name, classes in images.conditions.items()}


def check_user_code(name: str, recipe: Recipe) -> None:
    """Raise an error if the recipe contains user code that would see private rows without noise.

    The objective counts only if it is one-shot, that is, fitted in closed form from all rows instead of by DP-SGD.

    Raises:
        UsageError: If the recipe has a user-defined one-shot objective or modality.
    """
    objective, modality = recipe.objective, recipe.modality
    if objective.is_one_shot and not all(map(_is_builtin, (objective, *vars(objective).values()))):
        _refuse(name, "its one-shot objective is user code, which sees all rows without being charged")
    if modality is not None and not _is_builtin(modality):
        _refuse(name, "its modality is user code, which sees all rows; use a built-in modality")


def _is_builtin(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("builtins", "feller")


def check_row_independence(name: str, objective: Objective, network: nn.Module, data: Dataset, engine: Engine) -> None:
    """Raise an error if the loss of one row depends on other rows, or if there is not exactly one example per row.

    The test replaces or removes one of several generated rows; with equal random numbers, the losses of the other rows
    must not change. It uses a copy of the network with perturbed weights and, of the data, only modality and shapes.
    """
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += WEIGHT_NOISE * torch.randn(weight.shape, generator=generator).to(weight)
    noise = make_noise(0, "stand-in")
    rows, other_rows = (random_rows(data, ROWS, noise) for _ in range(2))

    def losses(subset: Dataset) -> Tensor:
        batch = engine.to_device({"x_1": subset.modality.encode(subset.values), "given": subset.given})
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            example = objective.draw(batch, Rng(0, 0, ROWS).fold_in("stand-in"), network)
            if num_examples(example) != len(subset):
                _refuse(name, f"expected one example per row; found {num_examples(example)} for {len(subset)} rows")
            loss = objective.loss(network, example)
        if loss.shape != (len(subset),):
            _refuse(name, f"expected one loss per row; found shape {list(loss.shape)} for {len(subset)} rows")
        return loss.double().cpu()

    initial = {key: value.clone() for key, value in network.state_dict().items()}
    truth = losses(rows)
    tolerance = TOLERANCE * truth.abs().nan_to_num(0, 0, 0).max().clamp(min=1e-6).item()

    def check(actual: Tensor, expected: Tensor, reason: str) -> None:
        if not torch.allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=True):
            _refuse(name, f"{reason}; a row's loss may depend only on the row, the weights and the random stream")

    check(losses(rows), truth, "the losses of the same rows and random numbers differ between two calls")
    for index in range(ROWS):
        is_other = torch.arange(ROWS) != index
        losses_now = losses(_with_row_replaced(rows, other_rows, index))
        check(losses_now[is_other], truth[is_other], f"replacing row {index + 1} changes the losses of other rows")
    check(losses(rows.subset(torch.arange(ROWS - 1))), truth[:-1], "removing a row changes the losses of other rows")
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, initial[key])]
    if changed:
        _refuse(name, f"its network stores values of rows without noise, in {changed[0]}; remove them")


def _refuse(name: str, reason: str) -> NoReturn:
    raise UsageError(f"private training does not support the recipe {name}: {reason}")


def _with_row_replaced(rows: Dataset, others: Dataset, index: int) -> Dataset:
    def replace_row(leaf: Tensor, other: Tensor) -> Tensor:
        leaf = leaf.clone()
        leaf[index] = other[index]
        return leaf

    return replace(
        rows,
        values=tree_map(replace_row, rows.values, others.values),
        given=tree_map(replace_row, rows.given, others.given),
    )


ARRAYS = (".npz", ".npy")
BY_TYPE = {"uint8": 255, "bool": 1}
"""dtype of an image array -> white level (value of a white pixel)."""


def white_level(data: DataSource, like: Modality | None) -> int | None:
    """Return the white level implied by the dtype of image arrays; None if `data` specify it or are not image arrays.

    Args:
        data: Data as given by the user.
        like: Modality that the images must have.

    Raises:
        InputError: If the white level could only be inferred from pixels, or if a folder has images of different sizes
            or channels.
    """
    path = pathlib.Path(said_of(data) if is_in_memory(data) else str(data))
    if path.is_dir() and idx.choose_images_file(path) is None:
        check_one_kind(path)
        return None
    if is_in_memory(data):
        dtype = _type_among(plain_arrays(data) or {})
    else:
        dtype = "uint8" if path.is_dir() or idx.ANY.fullmatch(path.name) else _type_of(path)
    if dtype is None:
        return None
    white = BY_TYPE.get(dtype)
    images = None if like is None else like.view(Images)
    if white is None or (images is not None and images.levels != white):
        raise InputError(
            f"a private fit must not infer the white level from pixels, and the dtype {dtype} does not define it",
            remedy="Add an array `levels` with the value of white, or use uint8 from 0 to 255",
            file=path,
        )
    return white


def _type_of(path: pathlib.Path) -> str | None:
    """Return the dtype of an image array file that does not state its white level; None for all other files."""
    if path.suffix.lower() not in ARRAYS or not path.is_file():
        return None
    return _type_among(load_arrays(path))


def _type_among(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Return the dtype of the images among named arrays; None if the arrays state a white level or hold no images."""
    candidates = [arrays[name] for name in SAMPLES if name in arrays] or list(arrays.values())
    images = [array for array in candidates if array.ndim in (3, 4) and array.dtype.kind in "biuf"]
    return str(images[0].dtype) if images and "levels" not in arrays else None


def with_white_level(dataset: Dataset, data: DataSource, like: Modality | None) -> Dataset:
    """Return images with the white level implied by the dtype of their arrays, instead of one inferred from pixels.

    Other data, and images for which `white_level` returns None, are returned unchanged.
    """
    images = dataset.modality.view(Images)
    if images is None and dataset.modality.view(LabelledImages) is None:
        return dataset
    labelled = None if like is None else like.view(LabelledImages)
    white = white_level(data, like if labelled is None else labelled.images)
    if white is None or images is None:
        return dataset
    return replace(dataset, modality=replace(images, levels=white))
