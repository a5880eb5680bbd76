"""The processor and torch by which a state was computed: on others, the same steps are equal up to rounding only."""

import functools
import pathlib
import platform

import torch

PROCESSOR = "processor"
"""Name of the note beside a state."""
FACTS = pathlib.Path("/proc/cpuinfo")


def processor(device: torch.device) -> str:
    """Name all that the last bits of a training depend on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        told = f"{threads} thread{'' if threads == 1 else 's'}"
        name = f"{_model()} ({torch.backends.cpu.get_cpu_capability()}, {told})"
    else:
        name = f"{platform.machine()} {device.type}"
    return f"{name}, torch {torch.__version__}"


def moved(note: dict[str, str], device: torch.device) -> str:
    """Say what to expect of a state that another processor, or another torch, wrote; empty where none did.

    Args:
        note: Beside the state; older ones do not name the processor.
        device: Where the training goes on.
    """
    before, now = note.get(PROCESSOR, ""), processor(device)
    if before in ("", now):
        return ""
    return f"written on {before}; now on {now}: the run goes on as it would have up to rounding, not bit for bit"


@functools.cache
def _model() -> str:
    """Return the model of the processor; its architecture where the system does not tell it."""
    lines = FACTS.read_text().splitlines() if FACTS.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
