"""Attention U-Net for medical images: train, predict, evaluate, and see where the network looks.

Names load when first used, so that `import attunet` costs nothing and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attunet.display import set_renderer
from attunet.telemetry import silence

if TYPE_CHECKING:
    from attunet.config import Plan, TrainingConfig
    from attunet.data.cases import DatasetOptions, find_cases, read_dataset
    from attunet.data.checks import inspect
    from attunet.data.formats import read_volume, write_volume
    from attunet.data.volume import Volume
    from attunet.errors import AttunetError, CancelledError
    from attunet.evaluation.evaluate import evaluate
    from attunet.explanation.explain import ExplainOptions, explain
    from attunet.export.benchmark import benchmark_model
    from attunet.export.package import export_model
    from attunet.inference.batch import predict_cases
    from attunet.inference.case_worker import CaseResult
    from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
    from attunet.inference.info import model_facts
    from attunet.inference.prediction import Prediction, PredictOptions
    from attunet.inference.segmenter import Segmenter
    from attunet.nn.network import AttentionUNet
    from attunet.planning.options import PlanOptions
    from attunet.planning.plan_dataset import plan_dataset
    from attunet.selection.comparison import compare_runs
    from attunet.selection.cross_validation import cross_validate
    from attunet.selection.ensemble import select
    from attunet.training.callbacks.progress import TrainingCallbacks
    from attunet.training.fit import fit
    from attunet.training.train import TrainOptions, train
    from attunet.training.variants import VariantOptions, compare_variants

__all__ = [
    "AttentionUNet",
    "AttunetError",
    "CancelledError",
    "CaseResult",
    "DatasetOptions",
    "EvaluateOptions",
    "ExplainOptions",
    "Plan",
    "PlanOptions",
    "PredictOptions",
    "Prediction",
    "Segmenter",
    "TrainOptions",
    "TrainingCallbacks",
    "TrainingConfig",
    "VariantOptions",
    "Volume",
    "benchmark_model",
    "compare_runs",
    "compare_variants",
    "cross_validate",
    "evaluate",
    "evaluate_cases",
    "explain",
    "export_model",
    "find_cases",
    "fit",
    "inspect",
    "model_facts",
    "plan_dataset",
    "predict_cases",
    "read_dataset",
    "read_volume",
    "select",
    "train",
    "write_volume",
]

_HOMES = {
    "AttentionUNet": "attunet.nn.network",
    "AttunetError": "attunet.errors",
    "CancelledError": "attunet.errors",
    "CaseResult": "attunet.inference.case_worker",
    "DatasetOptions": "attunet.data.dataset",
    "EvaluateOptions": "attunet.inference.evaluation",
    "ExplainOptions": "attunet.explanation.explain",
    "Plan": "attunet.config",
    "PlanOptions": "attunet.planning.options",
    "PredictOptions": "attunet.inference.prediction",
    "Prediction": "attunet.inference.prediction",
    "Segmenter": "attunet.inference.segmenter",
    "TrainOptions": "attunet.training.train",
    "TrainingCallbacks": "attunet.training.callbacks.progress",
    "TrainingConfig": "attunet.config",
    "VariantOptions": "attunet.training.variants",
    "Volume": "attunet.data.volume",
    "benchmark_model": "attunet.export.benchmark",
    "compare_runs": "attunet.selection.comparison",
    "compare_variants": "attunet.training.variants",
    "cross_validate": "attunet.selection.cross_validation",
    "evaluate": "attunet.evaluation.evaluate",
    "evaluate_cases": "attunet.inference.evaluation",
    "explain": "attunet.explanation.explain",
    "export_model": "attunet.export.package",
    "find_cases": "attunet.data.cases",
    "fit": "attunet.training.fit",
    "inspect": "attunet.data.checks",
    "model_facts": "attunet.inference.info",
    "plan_dataset": "attunet.planning.plan_dataset",
    "predict_cases": "attunet.inference.batch",
    "read_dataset": "attunet.data.cases",
    "read_volume": "attunet.data.formats",
    "select": "attunet.selection.ensemble",
    "train": "attunet.training.train",
    "write_volume": "attunet.data.formats",
}

silence()
set_renderer(lambda: import_module("attunet.report.notebook"))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attunet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
