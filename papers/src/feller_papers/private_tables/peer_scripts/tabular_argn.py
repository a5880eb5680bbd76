"""TabularARGN of mostlyai-engine (Apache-2.0), with its defaults, and with its DP-SGD if there is a budget.

All columns are given as categories: the codes of the public bins. Their range is public, so the engine's value
protection, which spends budget, is off.
"""

import tempfile

import pandas as pd
import torch
from mostlyai import engine
from mostlyai.engine.domain import DifferentialPrivacyConfig
from task import Task, read_task


def sample(task: Task, folder: str) -> pd.DataFrame:
    """Return sampled rows of codes of a model trained in a folder."""
    privacy = None
    if task.epsilon is not None:
        privacy = DifferentialPrivacyConfig(max_epsilon=task.epsilon, delta=task.delta, value_protection_epsilon=None)
    codes = task.codes().astype(str)
    encodings = dict.fromkeys(codes, "TABULAR_CATEGORICAL")
    engine.split(codes, model_type="TABULAR", tgt_encoding_types=encodings, workspace_dir=folder)
    engine.analyze(value_protection=False, differential_privacy=privacy, workspace_dir=folder)
    engine.encode(workspace_dir=folder)
    engine.train(differential_privacy=privacy, device="cpu", workspace_dir=folder)
    engine.generate(sample_size=task.rows, device="cpu", workspace_dir=folder)
    return pd.read_parquet(f"{folder}/SyntheticData")


if __name__ == "__main__":
    task = read_task()
    torch.set_num_threads(1)
    engine.set_random_state(task.seed)
    with tempfile.TemporaryDirectory() as folder:
        task.write(task.cells(sample(task, folder)))
