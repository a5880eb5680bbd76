"""Reading and writing of safetensors files."""

import json
import pathlib
from collections.abc import Iterable

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.migrations import formats_before, names_before
from feller.core.serialization import replace_file


def save_tensors(path: pathlib.Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors and metadata to one file atomically."""
    # Clone: the format refuses tensors that share memory.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = save(copies, metadata)
    replace_file(path, _sort_metadata(content) if metadata and len(metadata) > 1 else content)


def _sort_metadata(content: bytes) -> bytes:
    """Return the file content with sorted metadata, because safetensors writes entries in arbitrary order."""
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    new_header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(header_size)
    return len(new_header).to_bytes(8, "little") + new_header + content[8 + header_size :]


def load_weights(tensors: dict[str, Tensor], module: nn.Module) -> None:
    """Load tensors, whose names may be those of an older format, into the parameters and buffers of a network.

    Raises:
        RuntimeError: If names or shapes differ, or an integer tensor would be cast to floating-point weights.
    """
    tensors = named_as_now(tensors, module, module.state_dict())
    for name, weight in module.state_dict().items():
        if name in tensors and tensors[name].is_floating_point() != weight.is_floating_point():
            raise RuntimeError(f"{name} holds {tensors[name].dtype}, expected {weight.dtype}")
    module.load_state_dict(tensors)


def named_as_now(tensors: dict[str, Tensor], module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Rename tensors to a network's current parameter names, if all names of the tensors are from one older format.

    Args:
        tensors: Tensors read from a file, by name.
        module: Network whose classes determine the older names.
        names: Current names of the tensors.

    Tensor files record no format, so the format is inferred from the names. This is unambiguous because no attribute of
    a class reuses an older name.
    """
    names = {*names}
    for format_number in () if tensors.keys() == names else formats_before():
        older_names = names_before(module, names, format_number)
        if tensors.keys() == {*older_names.values()}:
            return {name: tensors[older_names[name]] for name in names}
    return tensors


def load_tensors(
    path: pathlib.Path, advice: str = "copy or train it again"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a file; no code in the file is executed.

    Raises:
        InputError: If the file is missing or damaged.
        OSError: If the file cannot be opened.
    """
    if not path.is_file():
        raise InputError("a file", "none", file=path)
    with path.open("rb"):  # safetensors reports every system error as a missing file
        pass
    try:
        if not _is_utf8(path):  # safetensors opens no such path
            content = path.read_bytes()
            metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
            return load(content), metadata
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError) as error:
        raise InputError(f"is damaged or truncated ({error}); {advice}", file=path) from error


def load_shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors of a file, without the tensors; errors as for `load_tensors`."""
    if not _is_utf8(path):
        return {name: tuple(tensor.shape) for name, tensor in load_tensors(path)[0].items()}
    try:
        with safe_open(str(path), "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"is damaged or truncated ({error}); copy it again", file=path) from error


def _is_utf8(path: pathlib.Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
