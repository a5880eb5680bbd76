"""MST, AIM and DPCTGAN of smartnoise-synth (MIT), with its defaults except for epsilon and delta.

All columns are given as codes of the public bins, and no budget is spent on preprocessing.
"""

import torch
from snsynth import Synthesizer
from task import read_task

if __name__ == "__main__":
    task = read_task()
    torch.manual_seed(task.seed)
    quiet = {"verbose": False}
    synthesizer = Synthesizer.create(task.method.lower(), epsilon=task.epsilon, delta=task.delta, **quiet)
    codes = task.codes()
    synthesizer.fit(codes, categorical_columns=list(codes), preprocessor_eps=0.0)
    task.write(task.cells(synthesizer.sample(task.rows)))
