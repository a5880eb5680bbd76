"""Time to import, on top of torch."""

import json
import os
import statistics
import subprocess
import sys

MODULES = {"feller": "feller, feller.sampling, feller.training.objective", "flow_matching": "flow_matching.solver"}
MODULES |= {"torchcfm": "torchcfm", "azula": "azula.sample"}


def milliseconds() -> dict[str, float]:
    """Return the processor time of each import, in a process of its own."""
    found = {}
    for name, modules in MODULES.items():
        code = f"import torch, time, json; c = time.process_time(); import {modules}; "
        code += "print(json.dumps(time.process_time() - c))"
        words = [sys.executable, "-W", "ignore", "-c", code]
        compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as installed; the first run compiles
        runs = [subprocess.run(words, capture_output=True, text=True, check=True, env=compiled) for _ in range(4)]
        found[name] = 1e3 * statistics.median(json.loads(run.stdout.splitlines()[-1]) for run in runs[1:])
    return found
