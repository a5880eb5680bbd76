"""Equivariant optimal transport within point clouds: permutation, rotation and translation of the noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feller.core.errors import check_number
from feller.core.pytree import Cond, State, append_dims, submask
from feller.core.rng import RandomStream
from feller.training.couplings.coupling import Coupling


@dataclass(frozen=True)
class EquivariantOT(Coupling):
    """Alignment of the noise of each point cloud with its data, by reassigning and rotating the noise points.

    The noise gets the centroid of the data, then points are reassigned and the cloud is rotated, alternately. For an
    equivariant network the source distribution is unchanged. Reflections are excluded. Source: Klein et al. 2023,
    "Equivariant flow matching", arXiv 2306.15030; Kabsch 1976 for the rotation.
    """

    couples_examples = False
    position_leaf: str = "place"
    """Name of the leaf (component) with positions [b, n, 3]; the source of other leaves must be exchangeable."""
    rounds: int = 2
    """Number of rounds, each a reassignment of the points and a rotation."""

    def __post_init__(self) -> None:
        check_number("rounds", self.rounds, ge=1)

    def __call__(self, x_0: State, x_1: State, cond: Cond, rng: RandomStream) -> State:
        noise, data = x_0[self.position_leaf], x_1[self.position_leaf]
        valid_mask = submask(cond.get("valid"), self.position_leaf)
        valid = torch.ones(data.shape[:2], dtype=torch.bool, device=data.device) if valid_mask is None else valid_mask
        data = torch.where(valid[:, :, None], data, 0)
        counts = valid.sum(1).clamp(min=1).to(noise.dtype)[:, None, None]
        centroid = data.sum(1, keepdim=True) / counts
        cloud = torch.where(valid[:, :, None], noise, 0)
        cloud = cloud - append_dims(valid, cloud) * (cloud.sum(1, keepdim=True) / counts)
        centred = torch.where(valid[:, :, None], data - centroid, 0)
        for _ in range(self.rounds):
            cloud = torch.take_along_dim(cloud, assign_points(cloud, centred, valid)[:, :, None], 1)
            cloud = cloud @ kabsch(cloud, centred).mT
        return {**x_0, self.position_leaf: torch.where(valid[:, :, None], cloud + centroid, noise)}


def assign_points(
    cloud: Float[Tensor, "b n 3"], data: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> Int[Tensor, "b n"]:
    """Return the index of the point of `cloud` (noise) assigned to each data point.

    The assignment minimises the total squared distance; padding keeps its own index.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    cost = -(data @ cloud.mT).double().cpu().numpy()  # |x - y|^2 without terms that do not depend on the assignment
    permutation = torch.arange(valid.shape[1]).repeat(len(valid), 1)
    for row, (costs, is_valid) in enumerate(zip(cost, valid.cpu(), strict=True)):
        index = is_valid.nonzero()[:, 0].numpy()
        if len(index):
            _, columns = linear_sum_assignment(costs[index][:, index])
            permutation[row, index] = torch.from_numpy(index[columns])
    return permutation.to(data.device)


def kabsch(cloud: Float[Tensor, "b n 3"], data: Float[Tensor, "b n 3"]) -> Float[Tensor, "b 3 3"]:
    """Return the rotation R that minimises |R cloud - data|^2 (Kabsch)."""
    u, _, v = torch.linalg.svd(data.mT @ cloud)
    sign = torch.linalg.det(u @ v).sign()
    signs = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], 1)
    return (u * signs[:, None]) @ v
