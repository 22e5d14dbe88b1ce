"""A trained model on disk: one run's folder, or an ensemble of several. safetensors, graphs and JSON; no pickle."""

from attunet.bundle.ensemble import Model, check_agreement, load_model, save_ensemble
from attunet.bundle.execution import EXECUTION, Execution, Quantization, write_execution
from attunet.bundle.run import (
    REFINEMENT,
    Bundle,
    FoldFiles,
    copy_run,
    fold_folder,
    load_bundle,
    save_execution,
    save_manifest,
    save_plan,
    save_refinement,
)
from attunet.bundle.unseen import Unseen, finished_folds, fold_cases, unseen_cases

__all__ = [
    "EXECUTION",
    "REFINEMENT",
    "Bundle",
    "Execution",
    "FoldFiles",
    "Model",
    "Quantization",
    "Unseen",
    "check_agreement",
    "copy_run",
    "finished_folds",
    "fold_cases",
    "fold_folder",
    "load_bundle",
    "load_model",
    "save_ensemble",
    "save_execution",
    "save_manifest",
    "save_plan",
    "save_refinement",
    "unseen_cases",
    "write_execution",
]
