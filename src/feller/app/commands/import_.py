"""Command `feller import`."""

from dataclasses import dataclass
from typing import Annotated, Any

from feller.app.commands.flag_types import Choices, CodeArgument, DataPath, Names, Numbers, OptionalInt, OptionalText


@dataclass(frozen=True, kw_only=True)
class Import:
    """Create a run from your own network: file.py:FUNCTION returns network(x, t) -> velocity.

    The run then works with `sample`, `steer`, `tune`, `evaluate` and `export`; pass the file again with --code.
    """

    place: CodeArgument
    """Function that returns a torch.nn.Module or a plain function of tensors."""
    modality: OptionalText = None
    """Data type and shape: points:2, points:x,y, images:28x28, images:32x32x3; with /LEVELS if white is not 255
    (default: that of --data, in feller's units)."""
    data: DataPath = None
    """Training data, for `evaluate`: a file, a folder or example:NAME."""
    weights: OptionalText = None
    """A .safetensors file with the weights (default: the weights after construction)."""
    predicts: Annotated[str, Choices(registries=("feller.app.workflows.import_network:PREDICTIONS",))] = "velocity"
    """Prediction of the network: velocity, data (x_1), source (noise, epsilon) or score."""
    schedule: Annotated[str, Choices(registries=("feller.app.workflows.import_network:SCHEDULES",))] = "linear"
    """Noise schedule: linear, cosine, linear-vp or vp."""
    times: Numbers = (0.0, 1.0)
    """Network times at the source and at the data: 1 0 if time runs from data to noise, 999 0 if it counts steps."""
    classes: Names = ()
    """Class names of the network's third argument, in order of their indices; or the number of classes."""
    null: OptionalInt = None
    """Class index that stands for "unconditional", if the network was trained with condition dropout; enables
    --guidance."""
    out: OptionalText = None
    """Run folder (default: a new one under runs/)."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter
        from feller.app.workflows.import_network import import_network

        reporter = make_reporter()
        run = import_network(self, reporter=reporter)
        reporter.log(f"sample with: feller sample {run.path} --code {self.place.rpartition(':')[0]}")
        return {"run": str(run.path)}
