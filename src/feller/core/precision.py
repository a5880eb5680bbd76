"""Precision of network evaluations: resolution of `auto`, support of devices, autocast and TensorFloat32."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch

from feller.core.errors import UsageError

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
"""Names of the precisions."""
_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision on a device: `auto` is bf16 on CUDA devices that support it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and _has_bf16() else "fp32"


def parse_precision(text: str) -> Precision:
    """Return the precision with a name.

    Raises:
        UsageError: If the name is unknown.
    """
    if text not in PRECISIONS:
        raise UsageError(f"one of {', '.join(PRECISIONS)}", text, argument="precision")
    return cast(Precision, text)


def check_precision(precision: Precision, device: torch.device, *, option: str = "--train.precision") -> None:
    """Check that a device supports a precision; `option` names the setting in the message.

    Raises:
        UsageError: If the device does not support the precision.
    """
    on_cuda = device.type == "cuda"
    if (precision == "tf32" and not on_cuda) or (precision == "bf16" and on_cuda and not _has_bf16()):
        raise UsageError(f"{device.type} does not support {precision}", remedy=f"Use {option} fp32")


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Return the dtype of matrix products and convolutions under autocast; None without autocast."""
    return _AUTOCAST_DTYPES.get(resolve_precision(precision, device))


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of a precision; weights keep their dtype."""
    dtype = autocast_dtype(precision, device)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def float32_matmul(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context for the remaining float32 products on CUDA: TensorFloat32 unless the precision is fp32.

    If `auto` resolves to fp32, the settings of torch are unchanged.
    """
    resolved = resolve_precision(precision, device)
    if device.type != "cuda" or (precision == "auto" and resolved == "fp32"):
        return contextlib.nullcontext()
    return _matmul_precision(allow_tf32=resolved != "fp32")


@contextlib.contextmanager
def _matmul_precision(*, allow_tf32: bool) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    previous = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = allow_tf32, allow_tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = previous


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
