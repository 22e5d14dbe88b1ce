"""A trained model on disk: one run's folder, or an ensemble of several. safetensors, graphs and JSON; no pickle."""

from attunet.bundle.ensemble import Model, check_agreement, load_model, save_ensemble
from attunet.bundle.execution import EXECUTION, Execution, Quantization, write_execution
from attunet.bundle.fold_files import FoldFiles, localizer_folder
from attunet.bundle.held_out import HeldOutCase, finished_folds, fold_cases, held_out_cases
from attunet.bundle.manifest import resealed
from attunet.bundle.run import (
    POSTPROCESSING,
    Bundle,
    fold_folder,
    load_bundle,
    save_execution,
    save_manifest,
    save_plan,
    save_postprocessing,
    withdraw_fold,
)
from attunet.bundle.sharing import copy_run
from attunet.bundle.skipping import Skipping, largest_share, write_skipping

__all__ = [
    "EXECUTION",
    "POSTPROCESSING",
    "Bundle",
    "Execution",
    "FoldFiles",
    "HeldOutCase",
    "Model",
    "Quantization",
    "Skipping",
    "check_agreement",
    "copy_run",
    "finished_folds",
    "fold_cases",
    "fold_folder",
    "held_out_cases",
    "largest_share",
    "load_bundle",
    "load_model",
    "localizer_folder",
    "resealed",
    "save_ensemble",
    "save_execution",
    "save_manifest",
    "save_plan",
    "save_postprocessing",
    "withdraw_fold",
    "write_execution",
    "write_skipping",
]
