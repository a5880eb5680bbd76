"""Time to import, on top of torch."""

import json
import statistics
import subprocess
import sys

MODULES = {"feller": "feller, feller.simulate, feller.objective", "flow_matching": "flow_matching.solver"}
MODULES |= {"torchcfm": "torchcfm", "azula": "azula.sample"}


def milliseconds() -> dict[str, float]:
    """Return the processor time of each import, in a process of its own."""
    found = {}
    for name, modules in MODULES.items():
        code = f"import torch, time, json; c = time.process_time(); import {modules}; "
        code += "print(json.dumps(time.process_time() - c))"
        runs = [
            subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
            for _ in range(3)
        ]
        found[name] = 1e3 * statistics.median(json.loads(run.stdout.splitlines()[-1]) for run in runs)
    return found
