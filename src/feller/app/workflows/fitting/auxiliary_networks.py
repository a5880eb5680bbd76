"""The networks that the data of a run need: trained beside the model, or taken over."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from feller.app.reporter import Tell
from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.models.spec import Description, load_part, save_description
from feller.training.engine import Engine
from feller.training.loop import Batches, Learner, make_learner, train
from feller.training.objective import Objective
from feller.training.optimizer import Training


@dataclass(frozen=True, kw_only=True)
class Making:
    """How such networks of a run come about."""

    run: Run
    known: frozenset[str]
    """Those that have their weights already, from an older model or another run."""
    seed: int
    here: Engine

    def check(self, names: list[str]) -> None:
        """Refuse to make anew what a model has learned with.

        Raises:
            InputError: If a network is lost.
        """
        lost = [name for name in names if not self.run.part(name).is_file()]
        if lost and self.run.state.is_file():
            raise InputError(
                f"{self.run.part(lost[0])} is missing, and the model learned with it; bring it back, or start a new run"
            )

    def made(self, name: str, module: torch.nn.Module, about: Description, learned: Callable[[], None]) -> Description:
        """Give a network its weights, those of the run or new ones, and note what they are.

        Args:
            name: Of the network.
            module: The network.
            about: What the model is, as the run holds it by now.
            learned: Trains it.

        Raises:
            InputError: If a file of the run is damaged, or another's.
        """
        file = self.run.part(name)
        is_new = not file.is_file()
        if is_new and name not in self.known:
            learned()
        self.here.wait()  # until all have seen what was there
        if is_new and self.here.is_first:
            save_tensors(file, module.state_dict())
        self.here.wait()
        found = load_part(self.run, name, module, None if is_new else about.parts.get(name))
        about = replace(about, parts={**about.parts, name: found})
        if self.here.is_first:
            save_description(self.run, about)
        return about

    def draws(self, name: str) -> Draws:
        """Return the source of all randomness of the training of a network."""
        return Draws(self.seed).named(name)

    def learn(
        self, name: str, objective: Objective, feed: Batches, network: torch.nn.Module, training: Training, tell: Tell
    ) -> None:
        """Train a network to the end of its budget; what is kept is the average."""
        learner: Learner = make_learner(network.to(self.here.device).train().requires_grad_(True), training)
        tell.task(f"training the {name}")
        for report in train(learner, objective, feed, training, draws=self.draws(name), engine=self.here):
            tell.progress(report.share, f"step {report.step:,}, loss {report.loss.item():.4g}")
        learner.average.copy_to(network)
        network.eval().requires_grad_(False).to("cpu")
        tell.done()
