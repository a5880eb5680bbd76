"""Commands that a report names are those that make the run again."""

import pathlib

import pytest

from feller.app.workflows.next_steps import continue_command, fit_command
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee
from feller.core.run_folder import Run
from feller.training.optimizer import TrainConfig
from tests.records import fit_record

PLANNED = Guarantee(epsilon=4.0, delta=1e-5, n=1000, sigma=1.25, clip=1.0, batch=100, steps=40, unsafe_seed=3)
GIVEN = Guarantee(
    epsilon=4.0, delta=1e-5, n=1000, sigma=1.25, clip=1.0, batch=100, steps=40, by_noise=True, unsafe_seed=3
)
COUNTED = ClosedFormBudget(epsilon=0.5, delta=1e-6, n=1000, rho=0.01)


@pytest.mark.parametrize(
    ("asked", "training", "said"),
    [
        ({"private": PLANNED, "schema": "s.json"}, TrainConfig(steps=40), "--schema s.json --size tiny --epsilon 4"),
        ({"private": PLANNED}, TrainConfig(steps=40), "--epsilon 4 --delta 1e-05 --steps 40 --seed 1 --out r"),
        ({"private": GIVEN}, TrainConfig(steps=40), "--noise 1.25 --stop-at-epsilon 4 --delta 1e-05 --steps 40"),
        ({"private": COUNTED}, TrainConfig(), "--epsilon 0.5 --delta 1e-06 --seed 1"),
        (
            {"space": "torus", "project": True},
            TrainConfig(minutes=2.0),
            "--space torus --project --size tiny --minutes 2.0",
        ),
        (
            {"person": "woman", "order": "date", "max_rows": 9, "report": "none"},
            TrainConfig(steps=3),
            "--person woman --order date --max-rows 9 --size tiny --steps 3 --report none --seed 1",
        ),
        (
            {"private": PLANNED, "clip": "adaptive", "audit": ("fisher=64",)},
            TrainConfig(steps=40),
            "--epsilon 4 --delta 1e-05 --clip adaptive --audit fisher=64 --steps 40",
        ),
        (
            {"start_from": "older", "rank": 4, "target_modules": ("to_q", "to_v"), "nested": True, "links": True},
            TrainConfig(),
            "--nested --links --start-from older --rank 4 --target-modules to_q to_v --size tiny",
        ),
        ({"fields": ("--train.lr", "1e-4")}, TrainConfig(steps=3), "--size tiny --steps 3 --train.lr 1e-4 --seed 1"),
        ({"start_from": "older", "vocabulary": "bytes"}, TrainConfig(), "--vocabulary bytes --start-from older"),
    ],
)
def test_the_command_says_what_was_asked(asked, training, said):
    about = fit_record(data="people.csv", recipe="table", size="tiny", seed=1, **asked)
    command = fit_command(Run(pathlib.Path("r")), about, training)
    assert command.startswith("feller fit people.csv --recipe table")
    assert said in command
    assert "unsafe" not in command


def test_private_run_continues_within_its_plan():
    about = fit_record(data="people.csv", recipe="table", size="tiny", seed=1, private=PLANNED)
    command, _ = continue_command(Run(pathlib.Path("r")), about, None, TrainConfig(steps=40))
    assert command == "feller fit --resume --out r"


@pytest.mark.parametrize(
    ("training", "sketch", "options"),
    [
        (TrainConfig(minutes=10.0), "", " --minutes 20"),
        (TrainConfig(steps=40), "", " --steps 80"),
        (None, "", ""),
        (
            TrainConfig(minutes=1.0),
            "Undertrained (2 steps); resume with: feller fit --resume --out r --minutes 19",
            " --minutes 19",
        ),
    ],
)
def test_command_that_continues(training, sketch, options):
    about = fit_record(data="example:moons", recipe="points", size="tiny", seed=1)
    command, _ = continue_command(Run(pathlib.Path("r")), about, None, training, sketch)
    assert command == f"feller fit --resume --out r{options}"
