"""The networks that data need to be read and written: trained before the model is, or taken over."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from feller.contrastive import Contrastive
from feller.data.batches import batches
from feller.data.documents.modality import Documents, all_pictures
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.description import Description, load_part, save_description
from feller.draws import Draws
from feller.errors import InputError
from feller.journeys.tell import Tell
from feller.networks.bi_encoder import BiEncoderNetwork
from feller.objective import Objective
from feller.paths import Codes
from feller.recipes.recipe import Parts
from feller.reconstruction import Reconstruction
from feller.run import Run
from feller.tensors import save_tensors
from feller.train.engine import Engine
from feller.train.loop import Learner, make_learner, train
from feller.train.optimiser import Training


@dataclass(frozen=True, kw_only=True)
class Making:
    """How the parts of a run come about."""

    run: Run
    parts: Parts
    known: frozenset[str]
    """Those that have their weights already, from an older model or another run."""
    seed: int
    here: Engine

    def __call__(self, about: Description, data: Dataset, tell: Tell) -> tuple[Description, Dataset]:
        """Give the networks of a modality their weights: those of the run, or new ones that are learned here.

        Returns:
            What the model is, with hashes of these weights, as the run holds it by now; and the data, with the codes of
            their pictures.

        Raises:
            InputError: If a file of the run is damaged, another's, or lost after the model began to learn.
        """
        kind = data.modality
        if not isinstance(kind, Documents):
            return about, data
        lost = [name for name in kind.modules if not self.run.part(name).is_file()]
        if lost and self.run.state.is_file():
            raise InputError(
                f"{self.run.part(lost[0])} is missing, and the model learned with it; bring it back, or start a new run"
            )
        if "tokenizer" in kind.modules:
            about = self._made("tokenizer", kind, about, data, tell)
        rows, columns = kind.tokenizer.grid
        tell.say(f"each picture is {rows} x {columns} codes out of {kind.tokenizer.count:,}")
        data = replace(data, values=kind.coded(data.values))
        if "vectors" in kind.modules:
            about = self._made("vectors", kind, about, data, tell)
        return about, data

    def _made(self, name: str, kind: Documents, about: Description, data: Dataset, tell: Tell) -> Description:
        """Give one of them its weights, and note what they are."""
        file, module = self.run.part(name), kind.modules[name]
        is_new = not file.is_file()
        if is_new and name not in self.known:
            _TRAINED[name](self, data, kind, tell)
        self.here.wait()  # until all have seen what was there
        if is_new and self.here.is_first:
            save_tensors(file, module.state_dict())
        self.here.wait()
        found = load_part(self.run, name, module, None if is_new else about.parts.get(name))
        about = replace(about, parts={**about.parts, name: found})
        if self.here.is_first:
            save_description(self.run, about)
        return about

    def learn(
        self, name: str, objective: Objective, data: Dataset, network: torch.nn.Module, training: Training, tell: Tell
    ) -> None:
        """Train a network to the end of its budget; what is kept is the average."""
        draws = Draws(self.seed).named(name)
        learner: Learner = make_learner(network.to(self.here.device).train().requires_grad_(True), training)
        feed = batches(data, training.batch, draws)
        tell.task(f"training the {name}")
        for report in train(learner, objective, feed, training, draws=draws, engine=self.here):
            tell.progress(report.share, f"step {report.step:,}, loss {report.loss.item():.4g}")
        learner.average.copy_to(network)
        network.eval().requires_grad_(False).to("cpu")
        tell.done()


def _tokenizer(making: Making, data: Dataset, kind: Documents, tell: Tell) -> None:
    """Train what writes pictures as codes on all pictures of the documents."""
    pictures = Images(kind.height, kind.width, kind.channels)
    seen = Dataset(all_pictures(data.values), {}, pictures)
    objective = Reconstruction(Codes(), pictures.space())
    making.learn("tokenizer", objective, seen, kind.modules["tokenizer"], making.parts.tokenizer, tell)


def _vectors(making: Making, data: Dataset, kind: Documents, tell: Tell) -> None:
    """Count the pieces of texts, then train what finds documents to tell which picture belongs to which text."""
    network = kind.modules["vectors"]
    if not isinstance(network, BiEncoderNetwork):
        raise TypeError(f"expected a bi-encoder, got {type(network).__name__}")
    network.texts.count(kind.encode(data.values))
    objective = Contrastive(kind.space(), kind.symbols).beside(data)
    making.learn("vectors", objective, data, network, making.parts.vectors, tell)


_TRAINED: dict[str, Callable[[Making, Dataset, Documents, Tell], None]] = {
    "tokenizer": _tokenizer,
    "vectors": _vectors,
}
"""What trains each part."""
