"""Examples of every kind, on which the suites of this folder run.

Kinds are found through subclasses. One that can be made without arguments joins by itself where its base needs no
further facts; every other needs an entry in EXAMPLES, and `test_every_kind.py` fails until it has one.
"""

import contextlib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

import feller
from feller import paths, spaces
from feller.control.fine_tuning.adjoint_matching import AdjointMatching, FullAdjoint, LandingAdjoint, LeanAdjoint
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import RAFT
from feller.core.gradient import Gradient
from feller.core.rng import Rng
from feller.data.modality import Target
from feller.evaluation.judge import LabelClassification, RotationClassification
from feller.evaluation.speech.detector import DetectionObjective
from feller.networks import AdaLNZero, ALiBi, BlockAttention, NoTimeConditioning, Rotary, TimeToken
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.vq_ema import VectorQuantizerEMA
from feller.networks.image.classifier import ImageClassifier
from feller.networks.sequence.bi_encoder import BiEncoder, LearnedDocumentEncoder
from feller.networks.sequence.history_transformer import HistoryTransformer
from feller.networks.sequence.row_transformer import RowTransformer
from feller.paths import ProductPath as ProductPath
from feller.paths import diffusion_steps, schedules, time_distributions
from feller.paths.affine import (
    ConstantDiffusion,
    CustomDiffusion,
    DiffusionCoefficient,
    MemorylessDiffusion,
    SigmaProportional,
)
from feller.paths.brownian import BrownianBridge
from feller.paths.discrete import token_schedules
from feller.privacy.auditing.canaries import AuditedGradient, Canaries, CanaryAttacker
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.leakage_tracking import LeakageTracker, TrackedGradient
from feller.privacy.noise.grid_noise import SeededNoise
from feller.sampling import (
    DEIS,
    RK4,
    AdamsBashforth,
    Ancestral,
    ConsistencySampler,
    DormandPrince,
    DPMSolver,
    Euler,
    ExactDivergence,
    Heun,
    Hutchinson,
    MemorylessEuler,
    Midpoint,
    Solver,
    UniPC,
)
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import IndexedDatastore
from feller.sampling.solvers.adaptive_edits import AdaptiveEdits
from feller.spaces import HistoryTokens, TableTokens, Tokens
from feller.spaces import Product as ProductSpace
from feller.spaces.tokens import CategoricalSource, MaskSource, TokenSource
from feller.training import couplings, losses
from feller.training.objective import FlowMatching, Objective, TrainingContext
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding
from feller.training.objectives.autoencoding import AutoencodingLoss, SpectralLoss
from feller.training.objectives.block_diffusion import BlockDiffusion
from feller.training.objectives.causal_masked_lm import CausalMaskedLM, RetrievalCausalMaskedLM
from feller.training.objectives.contrastive import InfoNCE
from feller.training.objectives.distillation import Distillation
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.edit_matching import EditMatching
from feller.training.objectives.flow_map_losses import Consistency, Lagrangian, MeanFlow, Shortcut
from feller.training.objectives.flow_maps import FlowMaps
from feller.training.objectives.frame_infilling import AllFrames, Infilling, MaskedFrames
from feller.training.objectives.history_likelihood import HistoryLikelihood
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller.training.objectives.maximum_likelihood import MaximumLikelihood
from feller.training.objectives.next_token_prediction import NextTokenPrediction, RowLikelihood
from feller.training.objectives.output_perturbation import OutputPerturbation
from feller.training.objectives.regression import Regression
from feller.training.objectives.step_pairs import AnySteps, GridSteps, StepsToLast
from tests.properties import makers
from tests.properties.case import Case, LossCase, ManifoldCase, ObjectiveCase, PathCase, ScheduleCase, SolverCase
from tests.spaces.solids import sphere

FINDER = LearnedDocumentEncoder(BiEncoder(makers.DOCUMENTS, (2, 2), width=4, size=16))
BASES: tuple[type, ...] = (
    *(
        schedules.Schedule,
        time_distributions.TimeDistribution,
        losses.Loss,
        couplings.Coupling,
        spaces.Space,
        spaces.Manifold,
        TokenSource,
    ),
    *(paths.Path, paths.Prediction, DiffusionCoefficient, Solver, Objective, Gradient),
    *(
        token_schedules.TokenSchedule,
        paths.Parameterization,
        paths.Rates,
        paths.TokenStepRule,
        paths.Corrector,
        paths.TokenDistance,
        paths.BetaSchedule,
        paths.UnmaskingOrder,
    ),
    *(paths.ConditionalPath, paths.EndpointSupport, paths.FinalStep, paths.JumpStepRule),
)
"""The families whose kinds have a suite here."""
FACTS: dict[type, type] = {
    schedules.Schedule: ScheduleCase,
    losses.Loss: LossCase,
    spaces.Manifold: ManifoldCase,
    paths.Path: PathCase,
    Solver: SolverCase,
    Objective: ObjectiveCase,
}
_ELSEWHERE = (*("__main__", "cli", "commands", "data", "journeys", "networks", "recipes", "report"), "train")
"""Parts without kinds of these families; modalities and architectures have suites of their own."""


@functools.cache
def import_everything() -> None:
    """Import all modules that may define kinds, except those whose extra is not installed."""
    for module in pkgutil.walk_packages(feller.__path__, "feller."):
        if module.name.split(".")[1] not in _ELSEWHERE:
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(module.name)


OWN_SUITES = (paths.EditFlow, paths.InsertionMasking, AdaptiveEdits)
"""Kinds whose states have no fixed length, with tests of their own in tests/paths/edits."""


def kinds(base: type) -> Iterator[type]:
    """Yield the concrete public kinds of a base that the library defines."""
    import_everything()
    for kind in base.__subclasses__():
        home = kind.__module__.split(".")
        ours = home[0] == "feller" and home[1] not in _ELSEWHERE and kind not in OWN_SUITES
        if ours and is_dataclass(kind) and not inspect.isabstract(kind):
            yield kind
        yield from kinds(kind)


def examples(base: type, kind: type) -> list[Case]:
    """Return the cases of a kind; empty if it needs an entry in EXAMPLES."""
    if kind in EXAMPLES:
        return EXAMPLES[kind]
    with contextlib.suppress(TypeError):
        return [FACTS.get(base, Case)(kind())]
    return []


def cases(base: type, *, when: Callable[[Any], bool] = lambda case: True) -> list[Any]:
    """Return the cases of a base, as parameters of a test."""
    found = [(kind, i, case) for kind in kinds(base) for i, case in enumerate(examples(base, kind)) if when(case)]
    return [pytest.param(case, id=f"{kind.__name__}{i or ''}") for kind, i, case in found]


def recordable(value: Any) -> bool:
    """Tell whether JSON can hold a kind: it has no function and no tensor inside."""
    if is_dataclass(value):
        return all(recordable(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return all(map(recordable, value.values()))
    return value is None or isinstance(value, str | int | float | tuple | list)


EXAMPLES: dict[type, list[Case]] = {
    schedules.LinearSigmaMin: [ScheduleCase(schedules.LinearSigmaMin(s), meets_data=False) for s in (1e-5, 0.1)],
    schedules.Polynomial: [ScheduleCase(schedules.Polynomial(n)) for n in (1.5, 2.0, 3.0)],
    diffusion_steps.DiffusionBetas: [
        ScheduleCase(diffusion_steps.DiffusionBetas(), meets_source=False),
        ScheduleCase(diffusion_steps.DiffusionBetas("scaled_linear", zero_terminal_snr=True)),
    ],
    schedules.VP: [ScheduleCase(schedules.VP(), meets_source=False)],
    schedules.VE: [ScheduleCase(schedules.VE(0.1, 5.0), meets_source=False, meets_data=False)],
    token_schedules.KineticOptimal: [
        ScheduleCase(token_schedules.KineticOptimal(mass)) for mass in (0.0, 1 / 17, 0.5, 0.9)
    ],
    schedules.CustomSchedule: [ScheduleCase(schedules.CustomSchedule(makers.quarter_sine, makers.falling_parabola))],
    DPSGD: [Case(DPSGD(sigma=1.0, noise=SeededNoise(0)))],
    TrackedGradient: [
        Case(
            TrackedGradient(
                inner=DPSGD(sigma=1.0, noise=SeededNoise(0)),
                tracker=LeakageTracker(
                    torch.zeros(2, 3), lambda network, step: lambda z: {"x_1": z}, rate=0.5, rng=Rng(0)
                ),
            )
        )
    ],
    AuditedGradient: [
        Case(
            AuditedGradient(
                inner=DPSGD(sigma=1.0, noise=SeededNoise(0)),
                attacker=CanaryAttacker(
                    Canaries(torch.tensor([True, False]), torch.zeros(0, dtype=torch.long), 10),
                    lambda network, step: {"x_1": torch.zeros(2, 3)},
                    rate=0.5,
                    noise=SeededNoise(1),
                ),
            )
        )
    ],
    time_distributions.LogitNormal: [
        Case(time_distributions.LogitNormal()),
        Case(time_distributions.LogitNormal(1.2, 1.2)),
    ],
    diffusion_steps.DiffusionSteps: [Case(diffusion_steps.DiffusionSteps("trailing"))],
    diffusion_steps.FlowMatchSteps: [Case(diffusion_steps.FlowMatchSteps(3.0))],
    time_distributions.Tabulated: [Case(time_distributions.Tabulated((0.0, 0.1, 0.5, 1.0)))],
    time_distributions.Shifted: [
        Case(time_distributions.Shifted(3.0)),
        Case(time_distributions.Shifted(0.5, time_distributions.LogitNormal())),
    ],
    time_distributions.Stratified: [
        Case(time_distributions.Stratified()),
        Case(time_distributions.Stratified(time_distributions.LogitNormal())),
    ],
    losses.SquaredError: [LossCase(losses.SquaredError(), makers.regression)],
    losses.AbsoluteError: [LossCase(losses.AbsoluteError(), makers.regression, bregman=False)],
    losses.PseudoHuber: [LossCase(losses.PseudoHuber(0.1), makers.regression, bregman=False)],
    losses.TimeWeighted: [LossCase(losses.TimeWeighted(losses.SquaredError(), makers.late_weight), makers.regression)],
    losses.CrossEntropy: [LossCase(losses.CrossEntropy(), makers.classification(5), makers.certain_logits(4))],
    losses.GeneralizedKL: [
        LossCase(losses.GeneralizedKL(schedule), makers.classification(symbols), makers.certain_logits(4))
        for schedule, symbols in ((schedules.Linear(), 4), (schedules.Polynomial(2.0), 5), (makers.PER_TOKEN, 4))
    ],
    losses.InfinitesimalKL: [LossCase(losses.InfinitesimalKL(), makers.positive_targets, torch.log)],
    losses.ItakuraSaito: [LossCase(losses.ItakuraSaito(), makers.positive_targets, torch.log)],
    losses.RateAndVelocityLoss: [
        LossCase(
            losses.RateAndVelocityLoss(),
            makers.positive_targets,
            lambda target: torch.cat([target[..., :-1].log(), target[..., -1:]], -1),
        )
    ],
    losses.MaskedTokenLoss: [
        LossCase(losses.MaskedTokenLoss(), makers.masked_classification, makers.certain_logits(4))
    ],
    losses.PerLeafLoss: [
        LossCase(
            losses.PerLeafLoss({"real": losses.SquaredError(), "token": losses.CrossEntropy()}),
            makers.product_inputs,
            lambda target: {"real": target["real"], "token": makers.certain_logits(4)(target["token"])},
        )
    ],
    couplings.MinibatchOT: [Case(couplings.MinibatchOT(block)) for block in (16, 256, None)],
    couplings.ClassConditional: [
        Case(couplings.ClassConditional()),
        Case(couplings.ClassConditional(couplings.IndependentCoupling())),
    ],
    spaces.Euclidean: [ManifoldCase(spaces.Euclidean((2,))), ManifoldCase(spaces.Euclidean((1, 3, 3)))],
    spaces.Sphere: [ManifoldCase(spaces.Sphere(n, shape), torch.neg) for n, shape in ((2, ()), (1, (3,)), (4, (2,)))],
    spaces.Torus: [ManifoldCase(spaces.Torus(shape), makers.half_turn) for shape in ((1,), (2, 3))],
    spaces.SO3: [ManifoldCase(spaces.SO3(shape), makers.half_rotation) for shape in ((), (2,))],
    spaces.Poincare: [ManifoldCase(spaces.Poincare()), ManifoldCase(spaces.Poincare(3, (2,)))],
    spaces.SPD: [ManifoldCase(spaces.SPD()), ManifoldCase(spaces.SPD(3, (2,)))],
    spaces.Simplex: [ManifoldCase(spaces.Simplex(2)), ManifoldCase(spaces.Simplex(3, (2,)))],
    spaces.Mesh: [ManifoldCase(sphere(2), facets=True)],
    Tokens: [
        Case(Tokens(4, (3,), source))
        for source in (spaces.UniformSource(), MaskSource(), CategoricalSource((1.0, 2.0, 3.0, 4.0)))
    ],
    TableTokens: [Case(makers.ROWS), Case(TableTokens(makers.ROWS.columns, value_probs=((), (0.5, 0.0, 0.5))))],
    HistoryTokens: [Case(makers.HISTORIES)],
    spaces.Sequences: [Case(spaces.Sequences(3, 5)), Case(spaces.Sequences(3, 5, spaces.RandomSequence(2)))],
    ProductSpace: [Case(ProductSpace({"real": spaces.Euclidean((2,)), "token": Tokens(4, (3,))}))],
    CategoricalSource: [Case(CategoricalSource((1.0, 0.0, 2.0, 5.0)))],
    paths.Affine: [
        *(
            PathCase(paths.Affine(prediction=kind), makers.reals(2))
            for kind in (
                paths.VelocityPrediction(),
                paths.DataPrediction(),
                paths.NoisePrediction(),
                paths.ScorePrediction(),
            )
        ),
        *(
            PathCase(paths.Affine(schedule, kind, noise), makers.reals(2))
            for schedule, kind, noise in (
                (schedules.Cosine(), paths.VelocityPrediction(), ConstantDiffusion(0.7)),
                (schedules.Polynomial(3.0), paths.DataPrediction(), SigmaProportional(1.0)),
                (schedules.LinearVP(), paths.NoisePrediction(), MemorylessDiffusion(50.0)),
                (schedules.Linear(), paths.ScorePrediction(), ConstantDiffusion(0.5)),
            )
        ),
        PathCase(paths.Affine(schedules.VP(), paths.NoisePrediction()), makers.reals(2), meets_ends=False),
        PathCase(paths.Affine(schedules.VE(0.1, 5.0), paths.DataPrediction()), makers.reals(2), meets_ends=False),
    ],
    paths.Geodesic: [
        PathCase(paths.Geodesic(spaces.Torus((2,))), makers.manifold_pairs(spaces.Torus((2,)))),
        PathCase(
            paths.Geodesic(spaces.Sphere(2), schedules.Polynomial(2.0)),
            makers.manifold_pairs(spaces.Sphere(2)),
            mixes=False,
        ),
        PathCase(paths.Geodesic(spaces.SO3()), makers.manifold_pairs(spaces.SO3()), mixes=False),
    ],
    paths.Premetric: [
        PathCase(paths.Premetric(spaces.Sphere(2)), makers.manifold_pairs(spaces.Sphere(2)), mixes=False, accuracy=1e-2)
    ],
    CustomDiffusion: [Case(CustomDiffusion(makers.vanishing_diffusion))],
    couplings.ConditionalOT: [Case(couplings.ConditionalOT(p)) for p in (0.0, 1.0)],
    couplings.GlobalBatchCoupling: [Case(couplings.GlobalBatchCoupling(couplings.ClassConditional()))],
    paths.Mixture: [
        PathCase(paths.Mixture(), makers.token_pairs(4, 3), makers.certain_logits(4), draws=True),
        PathCase(
            paths.Mixture(schedules.Polynomial(2.0)),
            makers.token_pairs(4, 3, mask=True),
            makers.certain_logits(4),
            draws=True,
        ),
        PathCase(
            paths.Mixture(source=MaskSource()),
            makers.token_pairs(4, 3, mask=True),
            makers.certain_logits(4),
            draws=True,
        ),
        PathCase(
            paths.Mixture(makers.PER_TOKEN, CategoricalSource(makers.SHARES), parameterization=paths.LeaveOneOut()),
            makers.token_pairs(4, 3),
            makers.certain_logits(4),
            draws=True,
        ),
        PathCase(
            paths.Mixture(
                source=spaces.UniformSource(), velocity=paths.Tempered(), corrector=paths.RenoiseCorrector(2.0)
            ),
            makers.token_pairs(4, 3),
            makers.certain_logits(4),
            draws=True,
        ),
    ],
    paths.MetricPath: [
        PathCase(kind, makers.token_pairs(4, 3), makers.certain_logits(4), meets_ends=False, draws=True)
        for kind in (
            paths.MetricPath(paths.LevelDistance(4)),
            paths.MetricPath(
                paths.LevelDistance(4), parameterization=paths.LeaveOneOut(), velocity=paths.FewestJumps()
            ),
            paths.MetricPath(
                paths.EmbeddingDistance(((0.0, 0.0), (0.0, 1.0), (2.0, 0.0), (3.0, 3.0))),
                paths.PowerBeta(),
                corrector=paths.ReversibleCorrector(0.5),
            ),
        )
    ],
    paths.SoftmaxPath: [
        PathCase(
            paths.SoftmaxPath(makers.concentrating_logits),
            makers.token_pairs(4, 3),
            makers.certain_logits(4),
            meets_ends=False,
            draws=True,
        )
    ],
    paths.JumpPath: [
        PathCase(
            paths.JumpPath(
                conditional_path=law,
                endpoint_support=paths.PointEstimate(space),
                jump_weight=0.0,
                final_step=paths.MeanEndpoint(),
            ),
            ends,
            meets_ends=meets,
            mixes=meets,
            accuracy=1e-6 if meets else 1e-2,
        )
        for law, space, ends, meets in (
            (paths.GaussianConditionalPath(), spaces.Euclidean((2,)), makers.reals(2), True),
            (paths.GaussianConditionalPath(schedules.Cosine()), spaces.Euclidean((2,)), makers.reals(2), True),
            (paths.VonMisesConditionalPath(), spaces.Torus((2,)), makers.manifold_pairs(spaces.Torus((2,))), False),
            (paths.RotationConditionalPath(), spaces.SO3(), makers.manifold_pairs(spaces.SO3()), False),
        )
    ],
    BrownianBridge: [
        PathCase(BrownianBridge(0.0), makers.reals(2)),
        PathCase(BrownianBridge(0.7), makers.reals(2), draws=True),
    ],
    paths.BinnedJumpPath: [
        PathCase(paths.BinnedJumpPath(), makers.reals(2), moves=False),
        PathCase(paths.BinnedJumpPath(jump_weight=0.5), makers.reals(2), moves=False),
    ],
    token_schedules.KineticOptimalPerToken: [Case(token_schedules.KineticOptimalPerToken(makers.SHARES))],
    paths.LeastEnergy: [Case(paths.LeastEnergy(((1.0, 1.0, 5.0), (1.0, 1.0, 1.0), (5.0, 1.0, 1.0))))],
    paths.LevelDistance: [Case(paths.LevelDistance(4)), Case(paths.LevelDistance(17, 3.0))],
    paths.EmbeddingDistance: [Case(paths.EmbeddingDistance(((0.0, 1.0), (2.0, 3.0), (5.0, 4.0))))],
    paths.DistanceTable: [Case(paths.DistanceTable(((0.0, 1.0, 5.0), (1.0, 0.0, 2.0), (4.0, 2.0, 0.0))))],
    paths.ConstantSpeedBeta: [Case(paths.ConstantSpeedBeta()), Case(paths.ConstantSpeedBeta(64.0, (1.0, 2.0, 1.0)))],
    paths.LogOddsCorrector: [Case(paths.LogOddsCorrector(0.5))],
    paths.ConfidenceOrder: [Case(paths.ConfidenceOrder(0.0))],
    ProductPath: [
        PathCase(
            makers.PAIR,
            makers.product_pairs,
            lambda x: {"real": x["real"], "token": makers.certain_logits(4)(x["token"])},
            draws=True,
        )
    ],
    Euler: [SolverCase(Euler(), 1, noise=True)],
    Midpoint: [SolverCase(Midpoint(), 2)],
    Heun: [SolverCase(Heun(), 2)],
    RK4: [SolverCase(RK4(), 4)],
    Ancestral: [
        SolverCase(Ancestral(eta=0.0), 1, backwards=False, jumps=False),
        SolverCase(Ancestral(eta=1.0), None, backwards=False, jumps=False),
    ],
    ConsistencySampler: [SolverCase(ConsistencySampler(), None, backwards=False, jumps=False)],
    AdamsBashforth: [SolverCase(AdamsBashforth(order), order, jumps=False) for order in (2, 3, 4)],
    DPMSolver: [
        SolverCase(DPMSolver(), 2, backwards=False, jumps=False),
        SolverCase(DPMSolver(stochastic=True), None, backwards=False, jumps=False),
    ],
    UniPC: [SolverCase(UniPC(), 2, backwards=False, jumps=False)],
    DEIS: [SolverCase(DEIS(), 2, backwards=False, jumps=False)],
    MemorylessEuler: [SolverCase(MemorylessEuler(), None, backwards=False, jumps=False)],
    DormandPrince: [
        SolverCase(DormandPrince(rtol=1e-7, atol=1e-7), None, jumps=False, splits=False),
        SolverCase(DormandPrince(rtol=1e-7, atol=1e-7, per_example=True), None, jumps=False),
    ],
    FlowMatching: [
        ObjectiveCase(
            FlowMatching(paths.Affine(), spaces.Euclidean((2,))),
            makers.batch_of(makers.reals(2)),
            lambda: makers.Small(2),
        ),
        ObjectiveCase(
            FlowMatching(
                paths.Affine(schedules.Cosine(), paths.DataPrediction()),
                spaces.Euclidean((2,)),
                losses.PseudoHuber(),
                time_distributions.LogitNormal(),
                couplings.ClassConditional(),
                0.5,
            ),
            makers.batch_of(makers.reals(2)),
            lambda: makers.Small(2),
            rows=False,
        ),
        *(
            ObjectiveCase(
                FlowMatching(paths.Mixture(), Tokens(4, (3,), source), loss, time_distributions.Rescaled(0.99)),
                makers.batch_of(makers.token_pairs(4, 3)),
                lambda: makers.Small(3, 4),
            )
            for source, loss in (
                (MaskSource(), losses.GeneralizedKL()),
                (MaskSource(), losses.MaskedTokenLoss()),
                (spaces.UniformSource(), losses.CrossEntropy()),
            )
        ),
        *(
            ObjectiveCase(
                FlowMatching(
                    path,
                    Tokens(4, (3,), source),
                    losses.CrossEntropy(),
                    time_distributions.Rescaled(0.99),
                    inpaint_prob=0.5,
                ),
                makers.batch_of(makers.token_pairs(4, 3)),
                lambda: makers.Small(3, 4),
            )
            for path, source in (
                (
                    paths.Mixture(
                        makers.PER_TOKEN, CategoricalSource(makers.SHARES), parameterization=paths.LeaveOneOut()
                    ),
                    CategoricalSource(makers.SHARES),
                ),
                (
                    paths.MetricPath(paths.LevelDistance(4), parameterization=paths.LeaveOneOut()),
                    spaces.UniformSource(),
                ),
                (
                    paths.SoftmaxPath(makers.concentrating_logits, parameterization=paths.LeaveOneOut()),
                    spaces.UniformSource(),
                ),
            )
        ),
        ObjectiveCase(
            FlowMatching(
                makers.PAIR,
                ProductSpace({"real": spaces.Euclidean((2,)), "token": Tokens(4, (3,), MaskSource())}),
                losses.PerLeafLoss({"real": losses.SquaredError(), "token": losses.CrossEntropy()}),
            ),
            makers.batch_of(makers.product_pairs),
            makers.SmallPair,
        ),
    ],
    Distillation: [
        ObjectiveCase(
            Distillation(paths.Affine(), spaces.Euclidean((2,)), 4).build(
                TrainingContext(teacher=lambda x, t, given: -x)
            ),
            makers.batch_of(makers.reals(2)),
            lambda: makers.Small(2),
        )
    ],
    FlowMaps: [
        ObjectiveCase(
            FlowMaps(
                FlowMatching(paths.Affine(), spaces.Euclidean((2,)), time_distribution=time_distributions.Uniform()),
                loss,
                steps,
                empty_prob=0.25,
                distills=distills,
                guidance=guidance,
                robustness=robustness,
            ).build(TrainingContext(teacher=makers.Small(2).float(), null={"label": 3})),
            makers.batch_of(makers.reals(2)),
            lambda: makers.SmallFlowMap(2),
        )
        for loss, steps, distills, guidance, robustness in (
            (Lagrangian(), AnySteps(), True, 2.0, 0.0),
            (Lagrangian(), GridSteps((1, 2)), False, 1.0, 0.0),
            (MeanFlow(), AnySteps(time_distributions.LogitNormal()), False, 1.5, 1.0),
            (Shortcut(), AnySteps(), True, 1.0, 0.0),
            (Consistency(8), StepsToLast(), False, 1.0, 0.0),
        )
    ],
    AdjointMatching: [
        ObjectiveCase(
            AdjointMatching(path=path, space=spaces.Euclidean((2,)), steps=4, adjoint=adjoint, guidance=w).build(
                TrainingContext(reference=makers.Small(2), reward=lambda x, given: x.sin().sum(1))
            ),
            makers.sources_of(makers.reals(2)),
            lambda: makers.PerturbedSmall(2),
        )
        for path, adjoint, w in (
            (paths.Affine(), LeanAdjoint(), 1.0),
            (paths.Affine(schedules.Cosine(), paths.DataPrediction()), FullAdjoint(), 1.0),
            (paths.Affine(prediction=paths.NoisePrediction()), LeanAdjoint(), 2.0),
            (paths.Affine(), LandingAdjoint(), 1.0),
        )
    ],
    **{
        type(rule): [
            ObjectiveCase(
                rule.build(TrainingContext(reference=makers.Small(2), reward=makers.sine_reward)),
                makers.sources_of(makers.reals(2)),
                lambda: makers.PerturbedSmall(2),
                **facts,
            )
        ]
        for rule, facts in (
            (DRaFT(**makers.FLOW, backprop_steps=2, steps=4), {"random": False}),
            (ReFL(**makers.FLOW, steps=4), {}),
            (DiscreteAdjoint(**makers.FLOW, steps=4), {}),
            (RAFT(**makers.FLOW, steps=4), {"rows": False}),
            (PolicyGradient(**makers.FLOW, steps=4), {"rows": False}),
        )
    },
    MaximumLikelihood: [
        ObjectiveCase(
            MaximumLikelihood(paths.Affine(), spaces.Euclidean((2,)), steps=3, divergence=divergence, cond_dropout=0.5),
            makers.batch_of(makers.reals(2)),
            lambda: makers.Small(2),
        )
        for divergence in (Hutchinson(2), ExactDivergence())
    ],
    Regression: [
        ObjectiveCase(
            Regression(about, spaces.Euclidean((2,)), noise_std=0.5), makers.regression_batch, lambda: makers.Small(2)
        )
        for about in (Target(("a", "b"), (0.5, -1.0), (2.0, 0.5)), Target(("label",), classes=("red", "green")))
    ],
    Infilling: [
        ObjectiveCase(
            Infilling(path, spaces.Euclidean((9, 2)), loss_mask=counts, cond_dropout=0.3, max_length=7),
            makers.speech_batch,
            lambda clock=clock, distance=distance: makers.frame_infiller(2, clock, distance),
        )
        for path, counts, clock, distance in (
            (paths.Affine(), MaskedFrames(), TimeToken(), ALiBi()),
            (paths.Affine(schedules.VP(), paths.NoisePrediction()), AllFrames(), AdaLNZero(), Rotary()),
            (None, MaskedFrames(), NoTimeConditioning(), ALiBi()),
        )
    ],
    DurationInfilling: [
        ObjectiveCase(rule, makers.duration_batch, lambda clock=clock: makers.frame_infiller(1, clock, ALiBi()))
        for rule, clock in (
            (DurationInfilling.stochastic(spaces.Euclidean((9, 1))), TimeToken()),
            (DurationInfilling.deterministic(spaces.Euclidean((9, 1))), NoTimeConditioning()),
        )
    ],
    AdversarialAutoencoding: [
        ObjectiveCase(
            AdversarialAutoencoding(spaces.Euclidean((1, 8, 8))), makers.image_batch, makers.adversarial_autoencoder
        )
    ],
    AutoencodingLoss: [
        ObjectiveCase(
            AutoencodingLoss(spaces.Euclidean((1, 8, 8))),
            makers.image_batch,
            lambda quantiser=quantiser: makers.tokenizer(quantiser),
            random=False,
        )
        for quantiser in (FSQ((5, 4)), VectorQuantizerEMA(num_codes=6, dim=2))
    ],
    DetectionObjective: [ObjectiveCase(DetectionObjective(), makers.detection_batch, makers.detector, random=False)],
    SpectralLoss: [
        ObjectiveCase(SpectralLoss(spaces.Euclidean((48,)), windows, 32), makers.waveform_batch, makers.vocoder)
        for windows in ((8,), (4, 16))
    ],
    OutputPerturbation: [
        ObjectiveCase(
            OutputPerturbation(makers.TWO, spaces.Euclidean((1, 2, 2)), makers.BRIGHT),
            makers.binary_image_batch,
            makers.linear_classifier,
            random=False,
        )
    ],
    paths.LearnedOrder: [Case(paths.LearnedOrder(lambda x, t, cond: x.float()))],
    EditMatching: [
        ObjectiveCase(EditMatching(path, cond_dropout=0.5), makers.sequence_batch, makers.edit_network)
        for path in (
            paths.EditFlow(space=spaces.Sequences(3, 5)),
            paths.EditFlow(space=spaces.Sequences(3, 5), propagation=1.0),
            paths.InsertionMasking(space=spaces.Sequences(3, 5)),
        )
    ],
    BlockDiffusion: [
        ObjectiveCase(
            BlockDiffusion(Tokens(4, (5,), MaskSource()), cond_dropout=0.5, eos_token_id=3),
            makers.batch_of(makers.token_pairs(4, 5)),
            lambda: makers.language_network(4, 5, BlockAttention(2)),
        )
    ],
    NextTokenPrediction: [
        ObjectiveCase(
            NextTokenPrediction(Tokens(4, (3,)), cond_dropout=0.5, eos_token_id=3),
            makers.batch_of(makers.token_pairs(4, 3)),
            lambda: makers.Small(3, 4),
        )
    ],
    CausalMaskedLM: [
        ObjectiveCase(objective, makers.document_batch, makers.DocumentNetwork, rows=False)
        for objective in (
            CausalMaskedLM(
                Tokens(makers.DOCUMENTS.num_data_tokens, (14,)),
                makers.DOCUMENTS,
                40,
                80,
                SpanMasking(answer_span_prob=0.5),
            ),
            RetrievalCausalMaskedLM(
                CausalMaskedLM(Tokens(makers.DOCUMENTS.num_data_tokens, (14,)), makers.DOCUMENTS, 60),
                IndexedDatastore(
                    create_datastore(
                        makers.document_batch(20, Rng(5).stream("memory"))["x_1"], FINDER, makers.DOCUMENTS
                    ),
                    FINDER,
                ),
            ),
        )
    ],
    InfoNCE: [
        ObjectiveCase(
            InfoNCE(Tokens(makers.DOCUMENTS.num_data_tokens, (14,)), makers.DOCUMENTS, group_size=4),
            makers.document_batch,
            lambda: FINDER.config.build((14,), {}, Rng(0)).double(),
            rows=False,
        )
    ],
    RowLikelihood: [
        ObjectiveCase(
            RowLikelihood(makers.ROWS, shuffled, several),
            lambda n, draw: {"x_1": makers.ROWS.sample_base(n, draw), "given": {}},
            lambda: RowTransformer(makers.ROWS, width=16).build((3,), {}, Rng(0)).double(),
            random=shuffled > 0,
        )
        for shuffled, several in ((0.0, 1), (1.0, 1), (0.5, 3))
    ],
    HistoryLikelihood: [
        ObjectiveCase(
            HistoryLikelihood(makers.HISTORIES),
            lambda n, draw: {"x_1": makers.HISTORIES.sample_base(n, draw), "given": {}},
            lambda: (
                HistoryTransformer(makers.HISTORIES, width=16)
                .build((makers.HISTORIES.num_places,), {}, Rng(0))
                .double()
            ),
            random=False,
        )
    ],
    MarginalFitting: [
        ObjectiveCase(
            MarginalFitting(makers.WORDS),
            lambda n, draw: {"x_1": makers.WORDS.sample_base(n, draw), "given": {}},
            makers.marginal_network,
            random=False,
        )
    ],
    LabelClassification: [
        ObjectiveCase(LabelClassification(), makers.image_batch, lambda: ImageClassifier((1, 8, 8), 3, Rng(0)).double())
    ],
    RotationClassification: [
        ObjectiveCase(
            RotationClassification(), makers.image_batch, lambda: ImageClassifier((1, 8, 8), 4, Rng(0)).double()
        )
    ],
}
