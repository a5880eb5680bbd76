"""Modality of protein backbones: the atoms N, CA, C and O of each residue of a chain."""

import math
import pathlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond, State
from feller.core.serialization import replace_file
from feller.data.files import sample_folder
from feller.data.loading.raw import RawChains, RawExamples, check_longest, expect
from feller.data.modality import Dataset, Modality, Writer, check_finite_state
from feller.data.proteins.figure import traces
from feller.data.proteins.files import ATOMS, json_lines, pdb_text
from feller.data.proteins.frames import CA, NUM_COORDINATES, NUM_OWN_COORDINATES, C, atoms_to_frames, frames_to_atoms
from feller.spaces import SO3, Euclidean, Product

MIN_SCALE = 1e-3
"""Minimum standard deviation in Å by which a coordinate is divided, because coordinates can be constant in idealised
structures."""


@dataclass(frozen=True)
class Backbones(Modality):
    """Modality of backbones in relative frames, invariant under rotation and translation of the chain.

    Values are atom coordinates in Å, [n, longest, 4, 3], zero-padded. A state is a dict of two tensors. For each
    residue, they hold the rotation from the frame of its incoming bond to the frame of its outgoing bond, and nine
    standardised coordinates of the atoms in the rigid unit that begins with the residue; see the module `frames`. A
    state stores neither the pose of the chain nor the length of its first bond.
    """

    display_name = "protein backbones without sequences"
    raw_type = RawChains
    min_held_out = 300
    unit_name = "residues"
    has_density = False  # the ends of chains have constant entries

    longest: int
    """Number of residues to which all chains are padded."""
    lengths: tuple[str, ...]
    """Chain lengths in the training data, ascending: the classes of the condition `length`."""
    mean: tuple[float, ...]
    """Mean of each of the nine coordinates in a state, in Å."""
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.scale) == NUM_COORDINATES or not all(0 < s < math.inf for s in self.scale):
            raise InputError(
                f"means and positive scales of {NUM_COORDINATES} coordinates", f"{self.mean} and {self.scale}"
            )
        if not self.lengths or not all(name.isdecimal() and 0 < int(name) <= self.longest for name in self.lengths):
            raise InputError(f"chain lengths from 1 to {self.longest}", ", ".join(self.lengths) or "none")

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return {"length": self.lengths}

    def count_units(self, data: Dataset) -> int:
        return int(data.given["valid"].sum())

    @property
    def writers(self) -> dict[str, Writer]:
        """Functions that write samples, by file suffix; the empty suffix stands for a folder of PDB files.

        The other formats are arrays, JSON lines, and one PDB file with a model per chain.
        """
        return {
            ".npz": self._write_arrays,
            ".jsonl": lambda values, given, out: replace_file(out, json_lines(self.chains(values, given))),
            ".pdb": lambda values, given, out: replace_file(out, pdb_text(self.chains(values, given))),
            "": self._write_folder,
        }

    def space(self) -> Product:
        """Return the state space: SO(3) x R^9 for each residue."""
        return Product({"rotation": SO3((self.longest,)), "position": Euclidean((self.longest, NUM_COORDINATES))})

    def encode(self, values: Float[Tensor, "n l 4 3"]) -> State:
        """Convert atoms to rotations and standardised coordinates; padding is the identity and zeros."""
        values = values.double()
        rotation, coords, has_next = atoms_to_frames(values, (values[:, :, C] != values[:, :, CA]).any(2))
        mask = torch.cat(
            [coords[:, :, :1].ne(0).expand(-1, -1, NUM_OWN_COORDINATES), has_next[:, :, None].expand(-1, -1, 6)], 2
        )
        position = (coords - coords.new_tensor(self.mean)) / coords.new_tensor(self.scale)
        return {"rotation": rotation.float(), "position": torch.where(mask, position, 0).float()}

    def decode(self, state: State) -> Float64[Tensor, "n l 4 3"]:
        """Convert states to atom coordinates with the first CA at the origin; padding entries hold arbitrary values."""
        check_finite_state(state)
        position = state["position"].double()
        coords = position * position.new_tensor(self.scale) + position.new_tensor(self.mean)
        return frames_to_atoms(
            state["rotation"].double(), coords, math.dist(self.mean[NUM_OWN_COORDINATES:6], self.mean[6:])
        )

    def add_derived_conditions(self, given: Cond) -> Cond:
        """Add `valid` [n, longest], the mask of real residues, which follows from the condition `length`."""
        lengths = torch.tensor([*map(int, self.lengths), self.longest], device=given["length"].device)
        return {**given, "valid": self._mask(lengths[given["length"]])}

    def convert(self, data: Dataset) -> Dataset:
        if not isinstance(data.values, dict):
            return super().convert(data)
        given = {"length": data.given["length"], "valid": data.given["valid"]["position"]}
        return replace(data, values=data.values["atoms"], given=given, modality=self)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Convert raw chains to (padded values, conditions).

        A length that the training data lack becomes the null class of the condition `length`.
        """
        raw = expect(raw, RawChains)
        check_longest(raw, raw.lengths, self.longest, "residues")
        values = torch.zeros(len(raw.values), self.longest, len(ATOMS), 3, dtype=torch.float64)
        values[:, : raw.values.shape[1]] = torch.from_numpy(raw.values)
        class_index = {int(name): i for i, name in enumerate(self.lengths)}
        class_ids = [class_index.get(length, len(class_index)) for length in raw.lengths.tolist()]
        return values, {"length": torch.tensor(class_ids), "valid": self._mask(torch.from_numpy(raw.lengths))}

    def _mask(self, lengths: Tensor) -> Bool[Tensor, "n l"]:
        return torch.arange(self.longest, device=lengths.device) < lengths[:, None]

    def chains(self, values: Float[Tensor, "n l 4 3"], given: Cond) -> list[np.ndarray]:
        """Return the atoms [l, 4, 3] of each chain without padding, with the mean of its CA atoms at the origin."""
        valid = given["valid"] if "valid" in given else self.add_derived_conditions(given)["valid"]
        unpadded = [atoms[mask] for atoms, mask in zip(values.cpu().double().numpy(), valid.cpu().numpy(), strict=True)]
        return [atoms - atoms[:, CA].mean(0) for atoms in unpadded]

    def arrays(self, values: Float[Tensor, "n l 4 3"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, float64 [n, l, 4, 3] in Å, zero-padded, and `valid` [n, l]."""
        chains = self.chains(values, given)
        samples = np.zeros((len(chains), self.longest, len(ATOMS), 3))
        valid = np.zeros(samples.shape[:2], dtype=bool)
        for i, atoms in enumerate(chains):
            samples[i, : len(atoms)], valid[i, : len(atoms)] = atoms, True
        return {"samples": samples, "valid": valid}

    def show(self, values: Float[Tensor, "n l 4 3"], given: Cond, columns: int | None = None) -> Image.Image:
        return traces([atoms[:, CA] for atoms in self.chains(values, given)], columns)

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        contents = (pdb_text([atoms]) for atoms in self.chains(values, given))
        sample_folder.save_files(
            self.show(values, given), out, sample_folder.numbered_names(len(values), ".pdb"), contents
        )


def backbone_dataset(raw: RawChains) -> Dataset:
    """Build a dataset of backbones from raw chains, with a modality fitted to them."""
    modality = fit_backbones(raw)
    return Dataset(*modality.values_from_raw(raw), modality, raw.notes)


def fit_backbones(raw: RawChains) -> Backbones:
    """Return a modality fitted to raw chains: their lengths, and the mean and standard deviation of coordinates."""
    values, lengths = torch.from_numpy(raw.values), torch.from_numpy(raw.lengths)
    valid = torch.arange(values.shape[1]) < lengths[:, None]
    _, coords, has_next = atoms_to_frames(values, valid)
    if not has_next.any():
        raise InputError("chains of at least two residues", "single residues")
    own_coords, next_coords = coords[:, :, :NUM_OWN_COORDINATES][valid], coords[:, :, NUM_OWN_COORDINATES:][has_next]
    mean = torch.cat([own_coords.mean(0), next_coords.mean(0)])
    scale = torch.cat([own_coords.std(0, correction=0), next_coords.std(0, correction=0)]).clamp(min=MIN_SCALE)
    length_names = tuple(str(length) for length in lengths.unique().tolist())
    return Backbones(values.shape[1], length_names, tuple(mean.tolist()), tuple(scale.tolist()))
