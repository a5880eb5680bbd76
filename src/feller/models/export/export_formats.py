"""Export of networks to torch.export programs and to ONNX models, with a dynamic batch axis."""

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
from feller.models.export.exported_decoder import ExportedDecoder
from feller.models.export.exported_network import ExportedNetwork

Exportable = ExportedNetwork | ExportedDecoder
"""Module with tensors as inputs and outputs, which are named."""
BATCH_AXIS = "batch"
"""Name of the batch axis, which is the only dynamic axis."""


def to_torch_export(network: Exportable, path: pathlib.Path) -> None:
    """Export a network to a .pt2 file, a program that `torch.export.load` reads.

    Raises:
        UsageError: If the network cannot be traced.
    """
    program, buffer = _trace(network), io.BytesIO()
    torch.export.save(program, buffer)
    replace_file(path, buffer.getvalue())


def to_onnx(network: Exportable, path: pathlib.Path) -> None:
    """Export a network to an ONNX model file.

    Raises:
        UsageError: If the ONNX packages are missing, or the network cannot be converted.
    """
    for package in ("onnx", "onnxscript"):
        require_package(package, "writing ONNX", "export")
    program = _trace(network)
    with _quiet():
        try:
            onnx_program = torch.onnx.export(
                program,
                input_names=network.input_names,
                output_names=[*network.output_kinds],
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many types, with long messages
            raise UsageError(
                f"this network cannot be exported to ONNX ({_short(error)})", remedy="Use torch-export"
            ) from error
    if onnx_program is None:
        raise UsageError("this network cannot be exported to ONNX", remedy="Use torch-export")
    graph = onnx_program.model_proto.graph
    for value_info in (*graph.input, *graph.output):  # axis names for readers of the file
        value_info.type.tensor_type.shape.dim[0].dim_param = BATCH_AXIS
    replace_file(path, onnx_program.model_proto.SerializeToString())


WRITERS: dict[str, tuple[str, Callable[[Exportable, pathlib.Path], None]]] = {
    "torch-export": (".pt2", to_torch_export),
    "onnx": (".onnx", to_onnx),
}
"""Mapping from a format to its file extension and its export function."""


def _trace(network: Exportable) -> torch.export.ExportedProgram:
    """Trace a network with a dynamic batch axis, and check the outputs of the traced program."""
    tensors = tuple(tensor.contiguous() for tensor in network.inputs())
    batch = torch.export.Dim(BATCH_AXIS, min=1, max=2**20)
    network.requires_grad_(False)
    with torch.no_grad(), _quiet():
        network(*tensors)  # fill caches first: values cached during tracing would be fake tensors
        try:
            program = torch.export.export(
                network, tensors, dynamic_shapes=(tuple({0: batch} for _ in tensors),), strict=False
            )
        except Exception as error:
            name = type(network.network).__name__
            raise UsageError(
                f"{name} cannot be traced ({_short(error)})", remedy="Use `feller.velocity` or `sample`"
            ) from error
        _check(program, network, tensors)
    return program


def _check(program: torch.export.ExportedProgram, network: Exportable, tensors: tuple[Tensor, ...]) -> None:
    """Compare the outputs of a traced program and its network on a larger batch than the traced one."""
    batch = tuple(torch.cat([tensor, tensor.flip(0), tensor[:1]]) for tensor in tensors)
    for expected, exported in zip(network(*batch), program.module()(*batch), strict=True):
        if not torch.allclose(expected, exported, rtol=1e-4, atol=1e-5, equal_nan=True):
            max_error = (expected - exported).abs().max().item()
            raise InputError(
                f"the output of the exported network differs from the original by up to {max_error:.3g}",
                remedy="Use `feller.velocity`",
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence loggers and warnings of the exporters."""
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
    """Return the first line of an error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
