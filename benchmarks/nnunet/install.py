"""Creates nnU-Net's environment: python benchmarks/nnunet/install.py ENV"""

import sys
from pathlib import Path

from peer import install

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    install(folder.resolve())
