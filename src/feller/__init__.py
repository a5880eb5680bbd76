"""Markov processes that turn noise into data: training, sampling, steering, fine-tuning and evaluation."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # the names in `_EXPORTS`, for type checkers and editors
    # fmt: off
    # isort: off
    from feller.app.api import (
        audit as audit, bridge as bridge, evaluate as evaluate, export as export, fit as fit, infer_schema as
        infer_schema, load as load, sample as sample, steer as steer, tune as tune,
    )
    from feller.app.config import (
        AuditConfig as AuditConfig, BridgeConfig as BridgeConfig, EvaluateConfig as EvaluateConfig,
        ExportConfig as ExportConfig, FitConfig as FitConfig, SampleConfig as SampleConfig,
        SchemaConfig as SchemaConfig, SteerConfig as SteerConfig, TuneConfig as TuneConfig,
    )
    from feller.app.option_groups import (
        PrivacyOptions as PrivacyOptions, DataLoadingOptions as DataLoadingOptions, LoRAOptions as LoRAOptions,
        RunFolderOptions as RunFolderOptions, SampleFileOptions as SampleFileOptions,
        SamplerOptions as SamplerOptions, TokenOptions as TokenOptions, TrainingOptions as TrainingOptions,
    )
    from feller.app.results import FittedRun as FittedRun, Report as Report, SteeredSamples as SteeredSamples
    from feller.app.synthesizer import Synthesizer as Synthesizer
    from feller.app.modalities.registration import register_modality as register_modality
    from feller.app.workflows.cite import cite as cite
    from feller.control.bridges.bridge_config import BridgeSolverConfig as BridgeSolverConfig
    from feller.control.bridges.problem import BridgeProblem as BridgeProblem
    from feller.control.bridges.solution import BridgeSolution as BridgeSolution, solve_bridge as solve_bridge
    from feller.core.errors import InputError as InputError, UsageError as UsageError
    from feller.core.output_shards import open_shards as open_shards
    from feller.core.rng import Rng as Rng
    from feller.core.run_folder import open_run as open_run
    from feller.data.conditions.categories import CategoryCondition as CategoryCondition, SetCondition as SetCondition
    from feller.data.conditions.condition import Condition as Condition
    from feller.data.conditions.encoded_texts import EncodedTextCondition as EncodedTextCondition
    from feller.data.conditions.image_condition import ImageCondition as ImageCondition
    from feller.data.conditions.numbers import NumberCondition as NumberCondition, VectorCondition as VectorCondition
    from feller.data.conditions.texts import SubwordCondition as SubwordCondition, TextCondition as TextCondition
    from feller.data.loading.dataset_reader import read as read
    from feller.data.tables.schema import Schema as Schema
    from feller.data.modality import Dataset as Dataset, Modality as Modality, RawData as RawData
    from feller.evaluation import conformance as testing  # noqa: F401 - a module
    from feller.models.export.velocity_field import VelocityField as VelocityField, velocity as velocity
    from feller.models.export.user_network import images as images, points as points
    from feller.models.model import Model as Model, load_model as load_model
    from feller.models.recipes.recipe import Recipe as Recipe
    from feller.networks.blocks.ema import EMA as EMA
    from feller.networks.step_end import WithStepEnd as WithStepEnd
    from feller.networks.unwrapping import null_values as null_values
    from feller.networks.mlp import MLP as MLP
    from feller.paths import (
        Affine as Affine, VPrediction as VPrediction, BinnedJumpPath as BinnedJumpPath, CircularBins as CircularBins,
        DataPrediction as DataPrediction, Geodesic as Geodesic, IntervalBins as IntervalBins, JumpPath as JumpPath,
        LatticeLevels as LatticeLevels, Mixture as Mixture, Path as Path, PointEstimate as PointEstimate, Prediction as
        Prediction, Premetric as Premetric, ProductPath as ProductPath, ScorePrediction as ScorePrediction,
        NoisePrediction as NoisePrediction, VelocityPrediction as VelocityPrediction, convert as convert,
    )
    from feller.paths.affine import (
        ConstantDiffusion as ConstantDiffusion, CustomDiffusion as CustomDiffusion, MemorylessDiffusion as
        MemorylessDiffusion, SigmaProportional as SigmaProportional,
    )
    from feller.paths.diffusion_steps import (
        DiffusionBetas as DiffusionBetas, DiffusionSteps as DiffusionSteps, FlowMatchSteps as FlowMatchSteps,
    )
    from feller.paths.divergence_free import langevin as langevin, metropolis as metropolis
    from feller.paths.processes import (
        Characteristics as Characteristics, Jumps as Jumps, Process as Process, add as add, reverse as reverse,
        superpose as superpose,
    )
    from feller.paths.rescheduling import reschedule as reschedule
    from feller.paths.schedules import (
        Cosine as Cosine, CustomSchedule as CustomSchedule, Linear as Linear, LinearVP as LinearVP, Polynomial as
        Polynomial, Schedule as Schedule, VE as VE, VP as VP,
    )
    from feller.paths.time_distributions import (
        LeafTimes as LeafTimes, LogitNormal as LogitNormal, Shifted as Shifted, Stratified as Stratified, Tabulated as
        Tabulated, TimeDistribution as TimeDistribution, edm_grid as edm_grid, linear_grid as linear_grid,
    )
    from feller.sampling import (
        AdamsBashforth as AdamsBashforth, Ancestral as Ancestral, ConsistencySampler as ConsistencySampler, DEIS as
        DEIS, DPMSolver as DPMSolver, DormandPrince as DormandPrince, Euler as Euler, ExactDivergence as
        ExactDivergence, Heun as Heun, Hutchinson as Hutchinson, MemorylessEuler as MemorylessEuler, Midpoint as
        Midpoint, RK4 as RK4, Solver as Solver, UniPC as UniPC, bits_per_dimension as bits_per_dimension, simulate as
        simulate, log_prob as log_prob, sample_with_log_prob as sample_with_log_prob,
    )
    from feller.sampling.guidance import (
        cfg as cfg, classifier_guidance as classifier_guidance, token_classifier_guidance as token_classifier_guidance,
    )
    from feller.sampling.guidance_variants import (
        apg as apg, autoguidance as autoguidance, cfg_rescale as cfg_rescale, cfg_zero_star as cfg_zero_star,
    )
    from feller.sampling.sampler_config import SamplerConfig as SamplerConfig
    from feller.sampling.time_grids import entropy_grid as entropy_grid, error_grid as error_grid
    from feller.spaces import (
        Euclidean as Euclidean, Manifold as Manifold, MaskSource as MaskSource, Mesh as Mesh, Poincare as Poincare,
        Product as Product, SO3 as SO3, SPD as SPD, Simplex as Simplex, Space as Space, Sphere as Sphere, Tokens as
        Tokens, Torus as Torus, se3 as se3,
    )
    from feller.training.augmentation import Augmentation as Augmentation
    from feller.training.couplings import (
        GlobalBatchCoupling as GlobalBatchCoupling, EquivariantOT as EquivariantOT, Coupling as Coupling,
        SinkhornCoupling as SinkhornCoupling, GeodesicCost as GeodesicCost, IndependentCoupling as IndependentCoupling,
        ConditionalOT as ConditionalOT, MinibatchOT as MinibatchOT, UnbalancedOT as UnbalancedOT, ClassConditional as
        ClassConditional,
    )
    from feller.training.losses import (
        CrossEntropy as CrossEntropy, GeneralizedKL as GeneralizedKL, InfinitesimalKL as InfinitesimalKL, ItakuraSaito
        as ItakuraSaito, Loss as Loss, PerLeafLoss as PerLeafLoss, PseudoHuber as PseudoHuber, SquaredError as
        SquaredError, TimeWeighted as TimeWeighted,
    )
    from feller.training.objective import (
        FlowMatching as FlowMatching, Objective as Objective, ObjectiveConfig as ObjectiveConfig, TrainingContext as
        TrainingContext,
    )
    from feller.training.objectives.distillation import Distillation as Distillation
    from feller.training.objectives.flow_map_losses import (
        Consistency as Consistency, FlowMapLoss as FlowMapLoss, Lagrangian as Lagrangian, MeanFlow as MeanFlow,
        Shortcut as Shortcut,
    )
    from feller.training.objectives.flow_maps import FlowMaps as FlowMaps
    from feller.training.objectives.maximum_likelihood import MaximumLikelihood as MaximumLikelihood
    from feller.training.objectives.step_pairs import (
        AnySteps as AnySteps, GridSteps as GridSteps, StepDistribution as StepDistribution, StepsToLast as StepsToLast,
    )
    from feller.training.observed_masks import (
        EntriesGapsAndEnds as EntriesGapsAndEnds, ObservedMasks as ObservedMasks, RandomEntries as RandomEntries,
    )
    from feller.training.optimizer import TrainConfig as TrainConfig
    from feller.training.trainer import Callback as Callback, Trainer as Trainer

    # isort: on
    # fmt: on

_EXPORTS = {
    "app.api": (
        *("audit", "bridge", "evaluate", "export", "fit", "infer_schema", "load", "sample", "steer", "tune"),
        *("AuditConfig", "BridgeConfig", "EvaluateConfig", "ExportConfig", "FitConfig", "PrivacyOptions"),
        *(
            "DataLoadingOptions",
            "LoRAOptions",
            "RunFolderOptions",
            "SampleConfig",
            "SampleFileOptions",
            "SamplerOptions",
            "SchemaConfig",
            "TokenOptions",
        ),
        *("SteerConfig", "TrainingOptions", "TuneConfig"),
    ),
    "app.results": ("FittedRun", "Report", "SteeredSamples"),
    "app.synthesizer": ("Synthesizer",),
    "app.workflows.cite": ("cite",),
    "app.modalities.registration": ("register_modality",),
    "control.bridges.bridge_config": ("BridgeSolverConfig",),
    "control.bridges.problem": ("BridgeProblem",),
    "control.bridges.solution": ("BridgeSolution", "solve_bridge"),
    "core.errors": ("InputError", "UsageError"),
    "core.output_shards": ("open_shards",),
    "core.rng": ("Rng",),
    "core.run_folder": ("open_run",),
    "data.conditions.categories": ("CategoryCondition", "SetCondition"),
    "data.conditions.condition": ("Condition",),
    "data.conditions.encoded_texts": ("EncodedTextCondition",),
    "data.conditions.image_condition": ("ImageCondition",),
    "data.conditions.numbers": ("NumberCondition", "VectorCondition"),
    "data.conditions.texts": ("SubwordCondition", "TextCondition"),
    "data.loading.dataset_reader": ("read",),
    "data.tables.schema": ("Schema",),
    "data.modality": ("Dataset", "Modality", "RawData"),
    "models.export.velocity_field": ("VelocityField", "velocity"),
    "models.export.user_network": ("images", "points"),
    "models.model": ("Model", "load_model"),
    "models.recipes.recipe": ("Recipe",),
    "networks.blocks.ema": ("EMA",),
    "networks.mlp": ("MLP",),
    "paths": (
        *("Affine", "BinnedJumpPath", "CircularBins", "DataPrediction", "EditFlow", "Geodesic", "InsertionMasking"),
        *("IntervalBins", "JumpPath", "LeftAlignment", "ShortestAlignment"),
        *("LatticeLevels", "Mixture", "NoisePrediction", "Path", "PointEstimate", "Prediction", "Premetric"),
        *("ProductPath", "ScorePrediction", "VPrediction", "VelocityPrediction", "convert"),
    ),
    "paths.affine": ("ConstantDiffusion", "CustomDiffusion", "MemorylessDiffusion", "SigmaProportional"),
    "paths.diffusion_steps": ("DiffusionBetas", "DiffusionSteps", "FlowMatchSteps"),
    "paths.divergence_free": ("langevin", "metropolis"),
    "paths.processes": ("Characteristics", "Jumps", "Process", "add", "reverse", "superpose"),
    "paths.rescheduling": ("reschedule",),
    "paths.schedules": ("Cosine", "CustomSchedule", "Linear", "LinearVP", "Polynomial", "Schedule", "VE", "VP"),
    "paths.time_distributions": (
        *(
            "LeafTimes",
            "LogitNormal",
            "Shifted",
            "Stratified",
            "Tabulated",
            "TimeDistribution",
            "edm_grid",
            "linear_grid",
        ),
    ),
    "sampling": (
        *("AdamsBashforth", "Ancestral", "ConsistencySampler", "DEIS", "DPMSolver", "DormandPrince", "Euler"),
        *(
            "ExactDivergence",
            "Heun",
            "Hutchinson",
            "MemorylessEuler",
            "Midpoint",
            "RK4",
            "Solver",
            "UniPC",
            "bits_per_dimension",
            "log_prob",
        ),
        *("sample_with_log_prob", "simulate"),
    ),
    "sampling.guidance": ("cfg", "classifier_guidance", "token_classifier_guidance"),
    "sampling.guidance_variants": ("apg", "autoguidance", "cfg_rescale", "cfg_zero_star"),
    "sampling.time_grids": ("entropy_grid", "error_grid"),
    "sampling.sampler_config": ("SamplerConfig",),
    "spaces": (
        *("EmptySequence", "Euclidean", "Manifold", "MaskSource", "Mesh", "Poincare", "Product", "RandomSequence"),
        *("SO3", "SPD", "Sequences", "Simplex", "Space"),
        *("Sphere", "Tokens", "Torus", "se3"),
    ),
    "training.augmentation": ("Augmentation",),
    "training.couplings": (
        *("ClassConditional", "ConditionalOT", "Coupling", "EquivariantOT", "GeodesicCost", "GlobalBatchCoupling"),
        *("IndependentCoupling", "MinibatchOT", "SinkhornCoupling", "UnbalancedOT"),
    ),
    "training.losses": (
        *("CrossEntropy", "GeneralizedKL", "InfinitesimalKL", "ItakuraSaito", "Loss", "PerLeafLoss", "PseudoHuber"),
        *("SquaredError", "TimeWeighted"),
    ),
    "training.objective": ("FlowMatching", "Objective", "ObjectiveConfig", "TrainingContext"),
    "networks.step_end": ("WithStepEnd",),
    "networks.unwrapping": ("null_values",),
    "sampling.solvers.adaptive_edits": ("AdaptiveEdits",),
    "training.objectives.block_diffusion": ("BlockDiffusion",),
    "training.objectives.edit_matching": ("EditMatching",),
    "training.objectives.distillation": ("Distillation",),
    "training.objectives.flow_map_losses": ("Consistency", "FlowMapLoss", "Lagrangian", "MeanFlow", "Shortcut"),
    "training.objectives.flow_maps": ("FlowMaps",),
    "training.objectives.step_pairs": ("AnySteps", "GridSteps", "StepDistribution", "StepsToLast"),
    "training.objectives.maximum_likelihood": ("MaximumLikelihood",),
    "training.observed_masks": ("EntriesGapsAndEnds", "ObservedMasks", "RandomEntries"),
    "training.optimizer": ("TrainConfig",),
    "training.trainer": ("Callback", "Trainer"),
}
_MODULE_OF = {name: home for home, names in _EXPORTS.items() for name in names}
RENAMED_EXPORTS = {
    **{"AcrossRanks": "GlobalBatchCoupling", "Aligned": "EquivariantOT", "Angular": "VPrediction"},
    **{"Binned": "BinnedJumpPath", "Bridging": "BridgeSolverConfig", "Circle": "CircularBins"},
    **{"Constant": "ConstantDiffusion", "Data": "DataPrediction", "Draws": "Rng", "endpoint": "simulate"},
    **{"Entropic": "SinkhornCoupling", "Exact": "ExactDivergence", "Formula": "CustomSchedule"},
    **{"FoundBridge": "BridgeSolution", "GeneralisedKL": "GeneralizedKL", "Independent": "IndependentCoupling"},
    **{"Interval": "IntervalBins", "Jump": "JumpPath", "LabelAware": "ConditionalOT", "Lattice": "LatticeLevels"},
    **{"Level": "CustomDiffusion", "log_density": "log_prob", "Matching": "FlowMatching"},
    **{"Memoryless": "MemorylessDiffusion", "MinibatchTransport": "MinibatchOT", "PerLeaf": "PerLeafLoss"},
    **{"Point": "PointEstimate", "ReadingOptions": "DataLoadingOptions", "rescheduled": "reschedule"},
    **{"sample_with_density": "sample_with_log_prob", "Sampling": "SamplerConfig", "Score": "ScorePrediction"},
    **{"shards": "open_shards", "Source": "NoisePrediction", "Squared": "SquaredError", "TimeLaw": "TimeDistribution"},
    **{"Training": "TrainConfig", "Unbalanced": "UnbalancedOT", "Vanishing": "SigmaProportional"},
    **{"Velocity": "VelocityPrediction", "Weighted": "TimeWeighted", "WithinClasses": "ClassConditional"},
    **{"wrap": "Model"},
}
"""Renamed public names: former name -> current name, for error messages."""
_MODULE_EXPORTS = {"testing": "evaluation.conformance"}
__all__ = sorted([*_MODULE_OF, *_MODULE_EXPORTS, "__version__"])


if not TYPE_CHECKING:  # hidden from type checkers, so that they report unknown names

    def __getattr__(name: str) -> object:
        """Import a public name on first use, so that `import feller` is fast."""
        if name in _MODULE_EXPORTS:
            return importlib.import_module(f"feller.{_MODULE_EXPORTS[name]}")
        if name not in _MODULE_OF:
            now = f"; it was renamed to {RENAMED_EXPORTS[name]}" if name in RENAMED_EXPORTS else ""
            raise AttributeError(f"module 'feller' has no attribute {name!r}{now}")
        return getattr(importlib.import_module(f"feller.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
