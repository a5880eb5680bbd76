"""Exported networks as files: one of torch, and one of ONNX, for any number of examples."""

import contextlib
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import require_package
from feller.core.serialization import replace_file
from feller.models.export.exported_network import Answer

BATCH = "batch"
"""Name of the axis of examples, the only one that may differ from call to call."""


def to_torch_export(answer: Answer, place: pathlib.Path) -> None:
    """Write a program that `torch.export.load` opens (.pt2).

    Raises:
        UsageError: If the network cannot be traced.
    """
    program, packed = _traced(answer), io.BytesIO()
    torch.export.save(program, packed)
    replace_file(place, packed.getvalue())


def to_onnx(answer: Answer, place: pathlib.Path) -> None:
    """Write an ONNX model.

    Raises:
        UsageError: If the packages for that are not there, or the network cannot be translated.
    """
    for package in ("onnx", "onnxscript"):
        require_package(package, "writing ONNX", "export")
    program = _traced(answer)
    with _quiet():
        try:
            made = torch.onnx.export(
                program,
                input_names=answer.names,
                output_names=[*answer.outputs],
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many kinds, each with pages of advice to its own makers
            raise UsageError(
                f"this network cannot be written as ONNX ({_short(error)})", remedy="Use torch-export"
            ) from error
    if made is None:
        raise UsageError("this network cannot be written as ONNX", remedy="Use torch-export")
    graph = made.model_proto.graph
    for one in (*graph.input, *graph.output):  # whoever looks at the file is to see which axis is which
        one.type.tensor_type.shape.dim[0].dim_param = BATCH
    replace_file(place, made.model_proto.SerializeToString())


WRITERS: dict[str, tuple[str, Callable[[Answer, pathlib.Path], None]]] = {
    "torch-export": (".pt2", to_torch_export),
    "onnx": (".onnx", to_onnx),
}
"""The ending of each form, and who writes it."""


def _traced(answer: Answer) -> torch.export.ExportedProgram:
    """Trace a network for any number of examples, and check that it answers as before."""
    tensors = tuple(tensor.contiguous() for tensor in answer.inputs())
    batch = torch.export.Dim(BATCH, min=1, max=2**20)
    answer.requires_grad_(False)
    with torch.no_grad(), _quiet():
        answer(
            *tensors
        )  # what is computed once and kept must not be kept from the tracing, whose tensors have no values
        try:
            program = torch.export.export(
                answer, tensors, dynamic_shapes=(tuple({0: batch} for _ in tensors),), strict=False
            )
        except Exception as error:
            kind = type(answer.network).__name__
            raise UsageError(
                f"{kind} cannot be traced ({_short(error)})", remedy="Use `feller.velocity` or `sample`"
            ) from error
        _check(program, answer, tensors)
    return program


def _check(program: torch.export.ExportedProgram, answer: Answer, tensors: tuple[Tensor, ...]) -> None:
    """Compare with the network on more examples than it was traced with."""
    more = tuple(torch.cat([tensor, tensor.flip(0), tensor[:1]]) for tensor in tensors)
    for ours, theirs in zip(answer(*more), program.module()(*more), strict=True):
        if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True):
            off = (ours - theirs).abs().max().item()
            raise InputError(
                f"the exported network answers otherwise, by up to {off:.3g}", remedy="Use `feller.velocity`"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracers' notes to their own makers away from people."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _short(error: Exception) -> str:
    """Return the first line of what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
