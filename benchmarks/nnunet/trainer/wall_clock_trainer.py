"""nnU-Net's own trainer with a wall-clock budget; nnU-Net finds it through the variable nnUNet_extTrainer."""

import os
import time

from batchgenerators.utilities.file_and_folder_operations import join, save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class WallClockTrainer(nnUNetTrainer):
    """nnU-Net's trainer with another schedule: its polynomial decay covers $BENCHMARK_SECONDS of training steps.

    The whole budget goes into training steps: no pseudo-Dice in between, no validation with mirroring at the end.
    """

    def run_training(self) -> None:
        budget = float(os.environ["BENCHMARK_SECONDS"])
        self.on_train_start()
        self.network.train()
        started, steps = time.monotonic(), 0
        while (used := time.monotonic() - started) < budget:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - used / budget) ** 0.9
            self.train_step(next(self.dataloader_train))
            steps += 1
        self.on_train_end()
        save_json({"budget": budget, "steps": steps, "seconds": used}, join(self.output_folder, "steps.json"))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        self.print_to_log_file("The cases are predicted by nnUNetv2_predict instead.")
