"""Engines in threads and after a fork: they answer, or say what to do."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from attunet import forks
from attunet.errors import EngineError
from attunet.forks import PerProcess, refuse_fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")

TOGETHER = """
import sys, threading
import numpy as np
from attunet import Segmenter
segmenter = Segmenter.load(sys.argv[1], device="cpu")
image = np.random.default_rng(0).normal(size=(20, 16, 10)).astype(np.float32)
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    segmenter.predict(image)
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("answered")
"""


CHILDREN = """
import multiprocessing, sys
import numpy as np
from attunet import Segmenter
image = np.random.default_rng(0).normal(size=(20, 16, 10)).astype(np.float32)
def inherited(queue, segmenter): queue.put(segmenter.predict(image).segmentation.array)
def its_own(queue, model): queue.put(Segmenter.load(model, folds=[0], device="cpu").predict(image).segmentation.array)
if __name__ == "__main__":
    segmenter = Segmenter.load(sys.argv[1], folds=[0], device="cpu")
    expected = segmenter.predict(image).segmentation.array
    method = multiprocessing.get_context("fork")
    for work, argument in ((inherited, segmenter), (its_own, sys.argv[1])):
        queue = method.Queue()
        child = method.Process(target=work, args=(queue, argument), daemon=True)
        child.start()
        same = (queue.get(timeout=100) == expected).all()
        child.join()
        print(work.__name__.replace("_", " ") + ":", "same" if same else "other")
"""


def in_child(work):
    """What `work` puts into a queue in a forked process."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    try:
        return queue.get(timeout=60)
    finally:
        child.kill()
        child.join()


def test_threads_may_begin_together(tiny_run):
    done = subprocess.run([sys.executable, "-c", TOGETHER, tiny_run], capture_output=True, text=True, timeout=120)
    assert done.stdout == "answered\n", done.stderr


def test_it_answers_in_forked_and_daemonic_processes(tiny_run):
    done = subprocess.run([sys.executable, "-c", CHILDREN, tiny_run], capture_output=True, text=True, timeout=120)
    assert done.stdout == "inherited: same\nits own: same\n", done.stderr


def test_an_engine_that_does_not_answer_after_a_fork_says_what_to_do(monkeypatch):
    monkeypatch.setattr(forks, "SECONDS", 0.05)
    value = PerProcess(os.getpid)
    value.get()
    waiting = PerProcess(threading.Event().wait)

    def work(queue):
        try:
            waiting.get()
        except EngineError as error:
            queue.put(str(error))

    told = in_child(work)
    assert 'start the processes before a model is used, or with multiprocessing.get_context("spawn")' in told


def test_a_runtime_that_cannot_be_forked_says_so():
    refuse_fork("torch")

    def work(queue):
        try:
            refuse_fork("torch")
        except EngineError as error:
            queue.put(str(error))

    assert "torch cannot be used" in in_child(work)


def test_a_value_is_made_once_in_each_process():
    made = []
    value = PerProcess(lambda: made.append(os.getpid()) or os.getpid())
    assert value.get() == value.get() == os.getpid()
    assert len(made) == 1

    def work(queue):
        queue.put((value.get(), os.getpid()))

    child, pid = in_child(work)
    assert child == pid != os.getpid()


SPAWNED = """
import asyncio, multiprocessing, sys, threading
import numpy as np
from attunet import Segmenter
image = np.random.default_rng(0).normal(size=(20, 16, 10)).astype(np.float32)
def work(model): return Segmenter.load(model, folds=[0], device="cpu").predict(image).segmentation.array
if __name__ == "__main__":
    segmenter = Segmenter.load(sys.argv[1], folds=[0], device="cpu")
    expected = segmenter.predict(image).segmentation.array
    async def main():
        inside = segmenter.predict(image)  # as a cell of a notebook, whose loop is running
        others = await asyncio.gather(*(asyncio.to_thread(segmenter.predict, image) for _ in range(2)))
        return [prediction.segmentation.array for prediction in (inside, *others)]
    print("asyncio:", all((array == expected).all() for array in asyncio.run(main())))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print("spawn:", (pool.apply_async(work, (sys.argv[1],)).get(timeout=100) == expected).all())
"""


@pytest.mark.integration
def test_it_answers_in_a_running_loop_and_in_spawned_processes(tiny_run, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(SPAWNED)
    done = subprocess.run([sys.executable, script, tiny_run], capture_output=True, text=True, timeout=200)
    assert done.stdout == "asyncio: True\nspawn: True\n", done.stderr
