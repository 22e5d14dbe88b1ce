"""A trained model on disk: one run's folder, or an ensemble of several. safetensors, graphs and JSON; no pickle."""

from attunet.bundle.ensemble import Model, check_agreement, load_model, save_ensemble
from attunet.bundle.run import (
    REFINEMENT,
    Bundle,
    FoldFiles,
    copy_run,
    fold_folder,
    load_bundle,
    save_manifest,
    save_plan,
    save_refinement,
)

__all__ = [
    "REFINEMENT",
    "Bundle",
    "FoldFiles",
    "Model",
    "check_agreement",
    "copy_run",
    "fold_folder",
    "load_bundle",
    "load_model",
    "save_ensemble",
    "save_manifest",
    "save_plan",
    "save_refinement",
]
