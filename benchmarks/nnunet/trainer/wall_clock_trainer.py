"""nnU-Net's own trainer with a wall-clock budget; nnU-Net finds it through the variable nnUNet_extTrainer."""

import os
import time

import torch
from batchgenerators.utilities.file_and_folder_operations import join, save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class WallClockTrainer(nnUNetTrainer):
    """nnU-Net's trainer with another schedule: its polynomial decay covers $BENCHMARK_SECONDS of training steps.

    The whole budget goes into training steps: no pseudo-Dice in between, no validation with mirroring at the end.
    It uses $OMP_NUM_THREADS threads; by itself, nnU-Net takes as many as the machine has cores, even when it is pinned
    to fewer.
    """

    def run_training(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
        budget = float(os.environ["BENCHMARK_SECONDS"])
        self.on_train_start()
        self.network.train()
        started, steps = time.monotonic(), 0
        while (used := time.monotonic() - started) < budget:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - used / budget) ** 0.9
            self.train_step(next(self.dataloader_train))
            steps += 1
        used = time.monotonic() - started
        self.on_train_end()
        save_json({"budget": budget, "steps": steps, "seconds": used}, join(self.output_folder, "steps.json"))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        self.print_to_log_file("The cases are predicted by nnUNetv2_predict instead.")


class WallClockTrainerNoMirroring(WallClockTrainer):
    """The same without mirroring in training and prediction, as nnU-Net's own nnUNetTrainerNoMirroring."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802  nnU-Net's name
        rotation, dummy_2d, initial_patch_size, _mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, None
