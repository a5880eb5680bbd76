"""Parsing of measurement operators from text, and reading of masks and measurements from files."""

import math
import pathlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.control.inverse.operators import (
    Blur,
    CompressedSensing,
    CustomLinearOperator,
    CustomOperator,
    Downsample,
    Grayscale,
    Inpaint,
    Operator,
    PhaseRetrieval,
    UnknownBlur,
    check_adjoint,
)
from feller.core.errors import InputError, UsageError
from feller.core.user_code import load_function
from feller.data.files.numpy_files import load_arrays
from feller.data.images.image_loading import ENDINGS, read_images
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.path_checks import require_exists

WHITE = 255
"""Pixel value of white in an image file."""


def parse_operator(words: str, mask: Bool[Tensor, " *d"] | None, shape: tuple[int, ...]) -> Operator:
    """Return the measurement operator named by a text such as `pool=2`, or by user code `file.py:FUNCTION[,ADJOINT]`.

    Args:
        words: Operator in text form.
        mask: Mask of the region to fill in, for the operator `inpaint`; None for other operators.
        shape: Shape of the values of one example.

    Raises:
        UsageError: If the operator is unknown or does not apply to the shape.
        InputError: If a user-defined operator is not differentiable, or if an adjoint is given but is not the adjoint
            of a linear operator.
    """
    if ".py:" in words:
        operator = _own(words, shape)
    else:
        name, _, parameter = words.partition("=")
        if name not in OPERATORS:
            raise UsageError.unknown_name("operator", name, OPERATORS, alternatives=", or file.py:FUNCTION")
        if name == "inpaint" and mask is None:
            raise UsageError("inpaint needs --mask, the region to fill in")
        if name != "inpaint" and mask is not None:
            raise UsageError("applies to inpaint only", found=repr(words), remedy="Leave it out", argument="mask")
        try:
            operator = Inpaint(mask) if mask is not None else OPERATORS[name](parameter)
        except UsageError as error:
            raise UsageError(error, place=f"--operator {words}") from error
    _check_differentiable(operator, words, shape)
    return operator


def _number(factory: Callable[[float], Operator], default: float) -> Callable[[str], Operator]:
    """Return a parser of the text after "=" in an operator's name, which builds the operator with this number."""

    def make(text: str) -> Operator:
        try:
            parameter = float(text) if text else default
        except ValueError:
            raise UsageError(expected="a number after the operator's name, as in blur=2", found=repr(text)) from None
        if not math.isfinite(parameter):
            raise UsageError(expected="a finite number after the operator's name, as in blur=2", found=repr(text))
        return factory(parameter)

    return make


def _whole(value: float) -> int:
    if value != int(value):
        raise UsageError(expected="a whole number after the operator's name, as in pool=2", found=f"{value:g}")
    return int(value)


OPERATORS: dict[str, Callable[[str], Operator]] = {
    "inpaint": lambda text: Inpaint(torch.zeros(0, dtype=torch.bool)),
    "pool": _number(lambda number: Downsample(_whole(number)), 2.0),
    "blur": _number(Blur, 1.0),
    "unknown-blur": _number(UnknownBlur, 1.0),
    "grey": lambda text: Grayscale(),
    "sums": _number(lambda number: CompressedSensing(_whole(number)), 16.0),
    "magnitudes": lambda text: PhaseRetrieval(),
}
"""Operator name -> function from the text of its parameter to the operator."""
OPERATOR_USES = {
    "inpaint": "missing or unwanted parts: inpainting",
    "pool": "low resolution: super-resolution",
    "blur": "lack of focus of known width: deblurring",
    "unknown-blur": "lack of focus of unknown width: blind deblurring",
    "grey": "missing colours: colourisation",
    "sums": "few measurements of the whole image: compressed sensing",
    "magnitudes": "diffraction patterns, which lack phases: phase retrieval",
}
"""Operator name -> when to use it."""


def _own(text: str, shape: tuple[int, ...]) -> Operator:
    """Return the operator of user code: file.py:function, or file.py:forward,adjoint for a linear operator."""
    file, _, names = text.rpartition(":")
    functions = [load_function(f"{file}:{name.strip()}") for name in names.split(",")]
    if len(functions) == 1:
        return CustomOperator(functions[0])
    if len(functions) != 2:
        raise UsageError("file.py:function, or file.py:forward,adjoint", repr(text))
    operator = CustomLinearOperator(functions[0], functions[1])
    check_adjoint(operator, shape)
    return operator


def _check_differentiable(operator: Operator, text: str, shape: tuple[int, ...]) -> None:
    """Raise an error unless a user-defined operator is differentiable and finite on two trial examples."""
    with torch.enable_grad():
        x = torch.full((2, *shape), 0.5).requires_grad_()
        measurements = operator(x)
    if not measurements.requires_grad:
        raise InputError(f"the operator {text} has no gradient; use differentiable torch operations")
    if not torch.isfinite(measurements).all():
        raise InputError(
            f"the operator {text} gives measurements that are not finite for an example with all values 0.5"
        )


def read_mask(path: pathlib.Path, shape: tuple[int, ...]) -> Bool[Tensor, " *d"]:
    """Read the mask of the region to fill in: white pixels of an image, or entries 1 or True of an array.

    Raises:
        InputError: If the size of the mask differs from that of an example, or the mask is full or empty.
    """
    require_exists(path, "a file")
    array = _picture(path)[0].mean(0, keepdims=True) > WHITE / 2 if _is_picture(path) else _array(path)[0] != 0
    size = shape[-2:] if len(shape) == 3 else shape
    if array.size == math.prod(size) and array.ndim >= len(size):
        mask = torch.from_numpy(np.ascontiguousarray(array)).reshape(size)
        if mask.all() or not mask.any():
            marked_text = "all" if mask.all() else "nothing"
            raise InputError(f"marks {marked_text} to be filled in; white or 1 marks the region", file=path)
        return mask.expand(shape)
    raise InputError(
        f"is a mask of {_size(array.shape)}, but the data are {_size(size)}", remedy="Resize the mask", file=path
    )


def read_measurements(
    path: pathlib.Path, operator: Operator, modality: Modality, shape: tuple[int, ...]
) -> Float[Tensor, " m *k"]:
    """Read the measurements of one or several examples, in data units.

    Raises:
        InputError: If the size of a measurement differs from that of the operator's output.
    """
    with torch.no_grad():
        expected = tuple(operator(torch.zeros(1, *shape)).shape[1:])
    images = modality.view(Images)
    levels = 1 if images is None else images.levels
    if _is_picture(path):
        array = _picture(path) * (levels / WHITE)
    else:
        array, white = _array(path)
        array = array.astype(np.float64) * (levels / white if white else 1)
    measurements = _match_shape(array, expected)
    if measurements is None:
        raise InputError(
            f"contains measurements of {_size(array.shape)}, but the operator gives {_size(expected)} per example",
            file=path,
        )
    if not np.isfinite(measurements).all():
        raise InputError("contains measurements that are not finite", file=path)
    return torch.from_numpy(np.ascontiguousarray(measurements)).float()


def _match_shape(array: np.ndarray, expected: tuple[int, ...]) -> np.ndarray | None:
    """Return measurements as [m, ...], from one or several; image channels may be first, last or omitted."""
    layouts = [expected]
    if len(expected) == 3:
        layouts += [(*expected[1:], expected[0]), *([expected[1:]] if expected[0] == 1 else [])]
    for layout in layouts:
        if array.shape == layout:
            array = array[None]
        if array.shape[1:] == layout:
            if len(layout) == 3 and layout != expected:
                array = array.transpose(0, 3, 1, 2)
            return array.reshape(len(array), *expected)
    return None


def _is_picture(path: pathlib.Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _picture(path: pathlib.Path) -> np.ndarray:
    """Return an image as an array [1, c, h, w] with values up to 255; c is 1 for grey images."""
    values, _ = read_images([path], None, None)
    return values.transpose(0, 3, 1, 2).astype(np.float64)


def _array(path: pathlib.Path) -> tuple[np.ndarray, int | None]:
    """Return the array in a file, and the value that stands for white, if the file records it."""
    if path.suffix.lower() not in (".npy", ".npz"):
        suffixes = ", ".join((".npy", ".npz", *ENDINGS))
        raise UsageError(f"cannot read measurements or masks from {path}", remedy=f"Use {suffixes}")
    arrays = load_arrays(path)
    white = int(arrays["levels"]) if "levels" in arrays else None
    name = "samples" if "samples" in arrays else next(iter(arrays), None)
    if name is None or arrays[name].dtype.kind not in "biuf":
        raise InputError("contains no numeric array", file=path)
    return arrays[name], white


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"
