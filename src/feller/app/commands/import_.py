"""Command `feller import`."""

import os
from dataclasses import dataclass
from typing import Annotated, Any

from feller.app.commands.flag_types import Choices, DataPath, ImportArgument, Names, Numbers, OptionalInt, OptionalText


@dataclass(frozen=True, kw_only=True)
class Import:
    """Create a run from a folder that save_pretrained wrote, or from your own network.

    Folders of diffusers and transformers say all that is needed; nothing in them is executed, and nothing is
    downloaded. Your own network is file.py:FUNCTION, which returns a network that maps (x, t) to the velocity; pass the
    file again with --code. The run then works with `sample`, `steer`, `tune`, `evaluate` and `export`.
    """

    place: ImportArgument
    """Folder of a pipeline of diffusers (Stable Diffusion 1, 2, XL and 3, FLUX, DiT, DDPM), of a network with its
    scheduler_config.json, or of a language model of transformers (GPT-2, Llama, Mistral, Qwen, BERT, DistilBERT,
    ModernBERT, LLaDA); or function that builds the network, as file.py:FUNCTION, which returns a torch.nn.Module or a
    plain function of tensors."""
    modality: OptionalText = None
    """Modality and shape of the data: points:2, points:x,y, images:28x28 or images:32x32x3; append /LEVELS if white is
    not 255 (default: that of --data, in the units of the data files, or that of the folder)."""
    data: DataPath = None
    """Training data, for `evaluate`: a file, a folder or example:NAME."""
    weights: OptionalText = None
    """File with the weights, .safetensors (default: the weights that the function returns)."""
    predicts: Annotated[str, Choices(registries=("feller.app.workflows.import_network:PREDICTIONS",))] = "velocity"
    """Quantity that the network predicts: velocity, data (x_1), source (the noise, epsilon) or score."""
    schedule: Annotated[str, Choices(registries=("feller.app.workflows.import_network:SCHEDULES",))] = "linear"
    """Noise schedule with which the network was trained: linear, cosine, linear-vp or vp."""
    times: Numbers = (0.0, 1.0)
    """Values of the network's time input at the noise and at the data: 1 0 if time runs from data to noise, 999 0 if
    the network counts 1,000 diffusion steps."""
    classes: Names = ()
    """Names of the classes, in the order of the indices in the network's third argument; or the number of classes."""
    null: OptionalInt = None
    """Index of the unconditional class, if the network was trained with condition dropout; enables --guidance."""
    out: OptionalText = None
    """Run folder (default: a new one under runs/)."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter
        from feller.app.workflows.import_folder import import_folder
        from feller.app.workflows.import_network import import_network
        from feller.core.pretrained_folder import require_pretrained_folder
        from feller.models.pretrained.diffusers_network import PROMPT
        from feller.models.spec import load_spec

        reporter, is_folder = make_reporter(), ":" not in self.place or os.path.exists(self.place)
        if is_folder:
            require_pretrained_folder(self.place)
        run = (import_folder if is_folder else import_network)(self, reporter=reporter)
        code = "" if is_folder else f" --code {self.place.rpartition(':')[0]}"
        prompt = load_spec(run).modality.selected_conditions.get(PROMPT) if is_folder else None
        options = "" if prompt is None else f' -n 4 --given {PROMPT}="{prompt.example}"'
        reporter.log(f"sample with: feller sample {run.path}{code}{options}")
        return {"run": str(run.path)}
