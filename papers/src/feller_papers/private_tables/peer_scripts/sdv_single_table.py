"""Gaussian copula and CTGAN of SDV (Business Source License), with their defaults; no formal privacy.

Cells are given as categories and numbers, not as bins.
"""

import torch
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer
from task import Task, read_task

TABLE = "rows"
"""Name of the table in SDV's metadata."""


def metadata_of(task: Task) -> Metadata:
    """Return SDV's metadata with the types of the public schema."""
    columns = {name: {"sdtype": "categorical" if name in task.categorical else "numerical"} for name in task.columns}
    return Metadata.load_from_dict({"tables": {TABLE: {"columns": columns}}})


if __name__ == "__main__":
    task = read_task()
    torch.manual_seed(task.seed)
    classes = {"Gaussian copula": GaussianCopulaSynthesizer, "CTGAN": CTGANSynthesizer}
    synthesizer = classes[task.method](metadata_of(task))
    synthesizer.fit({TABLE: task.train})
    sampled = synthesizer.sample(task.rows)
    task.write(sampled[TABLE] if isinstance(sampled, dict) else sampled)
