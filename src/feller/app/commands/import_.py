"""feller import."""

from dataclasses import dataclass
from typing import Annotated, Any

from feller.app.commands.flag_types import Choices, CodeArgument, DataPath, Names, Numbers, OptionalInt, OptionalText


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of a network of your own, file.py:FUNCTION, which returns it: network(x, t) -> velocity.

    Then `sample`, `steer`, `tune`, `evaluate` and `export` work with the run; name the file again with --code.
    """

    place: CodeArgument
    """The function, which returns a torch.nn.Module or a plain function of tensors."""
    modality: OptionalText = None
    """What the data are: points:2, points:x,y, images:28x28, images:32x32x3, with /LEVELS behind it where white is not
    255; by default as --data look, in feller's own units."""
    data: DataPath = None
    """What it learned from, for `evaluate`: a file, a folder or example:NAME."""
    weights: OptionalText = None
    """A .safetensors file with its weights; by default they are as the function makes them."""
    predicts: Annotated[str, Choices(registries=("feller.app.workflows.import_network:PREDICTIONS",))] = "velocity"
    """What it answers: velocity, data (the denoised), source (the noise, epsilon) or score."""
    schedule: Annotated[str, Choices(registries=("feller.app.workflows.import_network:SCHEDULES",))] = "linear"
    """How much of data and noise a state holds: linear, cosine, linear-vp or vp."""
    times: Numbers = (0.0, 1.0)
    """Its times at the source and at the data: 1 0 where it runs from data to noise, 999 0 where it counts steps."""
    classes: Names = ()
    """Names of the classes of its third argument, in the order of their numbers; or how many there are."""
    null: OptionalInt = None
    """Its number for "no class given", where it was trained to do without: then --guidance is possible."""
    out: OptionalText = None
    """The run folder; by default a new one under runs/."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import make_reporter
        from feller.app.workflows.import_network import import_network

        reporter = make_reporter()
        run = import_network(self, reporter=reporter)
        reporter.log(f"draw samples with: feller sample {run.path} --code {self.place.rpartition(':')[0]}")
        return {"run": str(run.path)}
