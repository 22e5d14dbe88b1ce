"""Training with lightning."""

import os

__all__: list[str] = []

if "OMP_WAIT_POLICY" not in os.environ:
    # Read by GNU OpenMP when torch is first imported: how often a waiting thread looks before it sleeps. By default
    # 300,000 times (7 ms), in which it may keep the thread that it waits for from the core. 3000 times take 75 µs,
    # three times what waking a thread takes.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
