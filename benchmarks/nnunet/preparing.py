"""Times nnU-Net's own preprocessing of one case. Runs with the Python of its environment.

    python preparing.py MODEL IMAGE

Prints the seconds, from file to network input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main() -> None:
    model, image = Path(sys.argv[1]), sys.argv[2]
    manager = PlansManager(str(model / "plans.json"))
    configuration = manager.get_configuration("3d_fullres")
    preprocessor = configuration.preprocessor_class(verbose=False)
    started = time.perf_counter()
    preprocessor.run_case([image], None, manager, configuration, json.loads((model / "dataset.json").read_text()))
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
