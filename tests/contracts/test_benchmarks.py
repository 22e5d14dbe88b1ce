"""The benchmark harness: interleaved runs, ratios, targets, and the page that shows them."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pytest

from attunet.data.cases import read_dataset, read_own_label
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume


@pytest.fixture
def bench(project, monkeypatch):
    """Put the folder of the scripts on the path, and remove the modules it adds afterwards."""
    monkeypatch.syspath_prepend(str(project / "benchmarks"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(project / "benchmarks")):
            del sys.modules[name]


@pytest.fixture
def table(bench):
    from harness import Goal, Row, Table

    rows = (Row("eager", (2.0, 3.0, 4.0), {"peak": "4 GB"}), Row("ours", (1.0, 1.0, 1.0)))
    return Table(
        "window_cpu",
        "One window",
        rows,
        goals=(Goal("ours against eager", 3.0, 2.5), Goal("of the ceiling", 0.594, 0.6, "share")),
        notes=("Two cores.",),
        command="python benchmarks/window.py",
        date="2026-01-01",
        machine={"cores": "2"},
    )


def test_peers_take_turns_and_the_warm_up_does_not_count(bench):
    from harness import interleave

    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ABC"}
    seconds = interleave(runs, 2, warm_up=1)
    assert "".join(order) == "ABC" * 3
    assert {name: len(times) for name, times in seconds.items()} == {"A": 2, "B": 2, "C": 2}


def test_a_run_may_time_itself(bench):
    from harness import interleave

    assert interleave({"A": lambda: 0.25}, 3, warm_up=0) == {"A": (0.25, 0.25, 0.25)}


def test_ratios_are_taken_round_by_round(bench):
    from harness import ratios

    assert ratios((2.0, 3.0, 8.0), (1.0, 1.0, 2.0)) == (3.0, 2.0, 4.0)


def test_a_goal_that_is_missed_says_so(table):
    reached, missed = table.goals
    assert reached.reached
    assert "not reached" not in str(reached)
    assert not missed.reached
    assert str(missed) == "of the ceiling: 59%, **not reached** (target: 60%)"


def test_a_table_shows_medians_ratios_and_what_is_missed(table):
    from page import markdown

    text = markdown(table)
    assert "| eager | 3.00 s |  | 4 GB |" in text
    assert "| ours | 1.00 s | 3.00 (2.00–4.00) |  |" in text
    assert "**not reached**" in text
    assert "3 rounds, 2026-01-01: `python benchmarks/window.py`" in text
    assert "0.33 (0.25–0.50)" in markdown(replace(table, ratio="longer"))


def test_only_the_generated_part_of_the_page_changes(table):
    from page import BEGIN, END, insert

    page = f"# Benchmarks\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"
    made = insert(page, [table])
    assert made.startswith("# Benchmarks\n\nBefore.\n\n")
    assert made.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in made
    assert "One window" in made
    assert insert(made, [table]) == made
    assert insert("# Benchmarks\n", [table]).count(BEGIN) == 1


def test_tables_come_back_from_their_file_and_are_renewed_by_name(table, tmp_path):
    from harness import Table
    from results import merged, ordered, read_tables, write_tables

    assert read_tables(tmp_path / "none.json") == []
    listing = replace(table, name="listing_cpu", command="python benchmarks/listing.py")
    write_tables([listing, table], tmp_path / "raw.json")
    old = read_tables(tmp_path / "raw.json")
    assert old == [listing, table]
    newer = Table.from_json(asdict(table) | {"date": "2026-02-02"})
    assert ordered(merged(old, [newer])) == [newer, listing]


def test_memory_counts_children_and_not_the_parent(bench, tmp_path):
    from processes import measure

    ballast = bytearray(400_000_000)
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', CODE])"
    code = "import time; held = bytearray(b'x') * 200_000_000; time.sleep(1)"
    command = [sys.executable, "-c", child.replace("CODE", repr(code))]
    # On a busy machine samples are rare, so that the second at the peak may be missed. Too much is never counted.
    for _ in range(4):
        done = measure(command, tmp_path / "log.txt")
        assert done.peak_gb < 0.35
        if done.peak_gb > 0.2:
            break
    assert done.peak_gb > 0.2
    assert done.seconds > 1
    assert len(ballast)


def test_a_busy_core_is_free_again_when_the_benchmark_is_killed(bench):
    import psutil

    code = "import crowded, time\nwith crowded.busy_core():\n    print('busy', flush=True)\n    time.sleep(600)"
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout.readline() == "busy\n"
        (busy,) = psutil.Process(program.pid).children()
        assert busy.is_running()
        program.kill()
    busy.wait(timeout=60)


def test_a_program_that_fails_ends_the_benchmark_with_its_words(bench, tmp_path):
    from processes import measure

    with pytest.raises(SystemExit, match="out of luck"):
        measure([sys.executable, "-c", "raise SystemExit('out of luck')"], tmp_path / "log.txt")


def test_the_command_on_the_page_names_no_folder(bench, tmp_path, monkeypatch, capsys):
    from harness import Row, Table
    from results import argument_parser, publish, read_tables

    monkeypatch.setattr(
        sys, "argv", ["window.py", "--rounds", "5", "--work", str(tmp_path), "--json", str(tmp_path / "x")]
    )
    publish([Table("t", "T", (Row("a", (1.0,)),))], argument_parser("Window.").parse_args())
    assert read_tables(tmp_path / "x")[0].command == "python benchmarks/window.py --rounds 5"
    assert "### T" in capsys.readouterr().out


def test_a_table_without_times_shows_only_its_facts(table):
    from harness import Row
    from page import markdown

    text = markdown(replace(table, rows=(Row("ours", (), {"Dice": "0.9"}), Row("theirs", (), {"Dice": "0.8"}))))
    assert "|  | Dice |" in text
    assert "| theirs | 0.8 |" in text
    assert "rounds" not in text


def blobs(folder, cases):
    """A data set of balls in nnU-Net's layout, in pairs of one patient."""
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3, indexing="ij"))
    for index in range(cases):
        ball = (((grid - 3 - index % 3) ** 2).sum(axis=0) < 9).astype(np.uint8)
        affine = np.eye(4)
        write_volume(Volume(ball[None] * np.float32(100), affine), folder / "imagesTr" / f"c{index}_0000.nii.gz")
        write_volume(Volume(ball[None], affine), folder / "labelsTr" / f"c{index}.nii.gz")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": cases}))
    return folder


@pytest.fixture
def balls(bench, tmp_path):
    from protocol.sources import canonical

    return canonical(str(blobs(tmp_path / "balls", 10)), tmp_path, tmp_path / "work")


def test_every_program_gets_the_same_cases_and_no_unseen_label(balls, tmp_path):
    from protocol.shares import make_shares

    (share,) = make_shares(balls, "shifted", tmp_path / "shares")
    assert share.train == tuple(f"c{index}" for index in range(7))
    assert share.unseen == ("c7", "c8", "c9")
    for training in (share.training, share.table, share.whole_table):
        assert tuple(case.id for case in read_dataset(training).labelled) == share.train
    assert sorted(path.name for path in share.images.iterdir()) == [f"c{index}_0000.nii.gz" for index in (7, 8, 9)]
    assert {case.split for case in read_dataset(share.whole_table).cases} == {"train"}
    assert {case.split for case in read_dataset(share.table).cases} == {None}
    assert sorted(path.name for path in (share.training / "labelsTr").iterdir()) == [f"c{i}.nii.gz" for i in range(7)]
    folds = make_shares(balls, "5", tmp_path / "folds")
    assert sorted(case for fold in folds for case in fold.unseen) == sorted(case.id for case in balls.labelled)
    assert all(not set(fold.train) & set(fold.unseen) for fold in folds)
    with pytest.raises(SystemExit, match="contains other cases"):
        make_shares(balls, "shifted", tmp_path / "shares", few=2)


def test_cases_of_one_group_are_on_one_side(balls, tmp_path):
    from protocol.shares import make_shares

    grouped = replace(balls, cases=tuple(replace(case, group="a" if case.id < "c4" else "b") for case in balls.cases))
    shares = make_shares(grouped, "groups", tmp_path / "groups")
    assert {share.unseen for share in shares} == {
        ("c0", "c1", "c2", "c3"),
        tuple(f"c{index}" for index in range(4, 10)),
    }


def test_labels_become_consecutive_and_the_rest_background(bench, tmp_path):
    from protocol import sources

    pictures = tmp_path / "data" / "pictures"
    values = np.array([[0, 255], [255, 7]], np.uint8)[None, ..., None].repeat(8, 1).repeat(8, 2)
    for index in range(2):
        write_volume(Volume(values, np.diag([-1.0, -1.0, 1.0, 1.0])), pictures / "images" / f"p{index}.png")
        write_volume(Volume(values, np.diag([-1.0, -1.0, 1.0, 1.0])), pictures / "labels" / f"p{index}.png")
    sources.SOURCES = {"pictures": sources.Source("pictures", {"membrane": 0}, lambda position: f"block{position}")}
    dataset = sources.canonical("pictures", tmp_path / "data", tmp_path / "work")
    assert dataset.label_names == {"background": 0, "membrane": 1}
    assert [case.group for case in dataset.labelled] == ["block0", "block1"]
    np.testing.assert_array_equal(read_own_label(dataset.labelled[0]).array, values == 0)


def test_programs_are_compared_case_by_case_and_a_tie_is_called_one(balls, tmp_path):
    from protocol.scores import accuracy_table, score
    from protocol.shares import make_shares

    (share,) = make_shares(balls, "shifted", tmp_path / "shares")
    results = []
    for name, drop in (("ours", 0), ("same", 0), ("worse", 2)):
        folder = tmp_path / name
        for file in share.references.iterdir():
            label = read_label(file)
            label.array[..., : 3 * drop] = 0
            write_volume(label, folder / "masks" / file.name)
        (folder / "record.json").write_text(json.dumps({"steps": 7, "seconds": 60, "prediction_seconds": 3}))
        results.append(score(name, [share], [folder]))
    table = accuracy_table("accuracy", "Accuracy", results, ())
    ours, same, worse = table.rows
    assert ours.facts["Dice (95% interval)"].startswith("1.000")
    assert ours.facts["prediction, s per case"] == "1"
    assert same.facts["first row minus this, paired"] == "+0.000 (+0.000 to +0.000)"
    assert worse.facts["first row minus this, paired"].startswith("+0.")
    assert "ours and same: a tie, the interval includes zero." in table.notes
    assert any(note.startswith("ours is better than worse by 0.") for note in table.notes)


def test_a_program_that_does_not_finish_gets_a_row_that_says_so(bench, tmp_path, monkeypatch):
    import argparse

    import trunk

    slow, fast = (f"import time; time.sleep({seconds})" for seconds in (0.4, 0.05))
    failing = "raise SystemExit('out of memory')"
    programs = {"attunet": fast, "all-windows": slow, "monai": failing}
    lines = {key: [sys.executable, "-c", code] for key, code in programs.items()}
    options = argparse.Namespace(rounds=2, work=tmp_path)
    seconds, memory, failed = trunk.measure_rounds(lines, None, options)
    assert {key: len(times) for key, times in seconds.items()} == {"attunet": 2, "all-windows": 2, "monai": 0}
    assert list(failed) == ["monai"]
    assert "out of memory" in failed["monai"]
    (goal,) = trunk._goals(seconds, memory, failed)
    assert goal.value > 1
    assert goal.target == 5


def test_the_labels_of_a_trunk_are_those_asked_for(bench):
    from trunk_models import trunk_label

    label = Volume(np.arange(5, dtype=np.uint8).reshape(1, 5, 1, 1), np.eye(4))
    assert trunk_label(label, ("kidneys", "liver")).array.ravel().tolist() == [0, 2, 0, 1, 0]


def test_the_cost_model_agrees_with_the_scheduler_that_it_describes(bench):
    from cluster_model import Cluster, simulate

    usual = {
        "workers": 4,
        "seconds": 30.0,
        "overhead": 0.03,
        "startup": 15.0,
        "repair": 600.0,
        "size": 80e6,
        "price": 1,
    }
    for nodes, storage, failures in ((4, 1e12, 0.0), (4, 1e12, 0.5), (4, 3e7, 0.02)):
        cluster = Cluster(scans=3000, nodes=nodes, storage=storage, failures=failures, **usual)
        hours, lost = simulate(cluster)
        assert hours == pytest.approx(cluster.formula_hours, rel=0.03)
        assert (lost > 3) == (failures == 0.5)
    assert cluster.useful_nodes < nodes  # the last one is limited by its storage
    assert cluster.cost(2.0) == 8.0


FAKE_SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

child = subprocess.Popen([sys.executable, "-c", "import time; held = bytearray(b'x') * 100_000_000; time.sleep(600)"])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"{}", "application/json")

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        head = b"Content-Disposition: form-data; "
        parts = [head + b'name="params"\\r\\n\\r\\n{}']
        parts.append(head + b'name="image"; filename="m.nrrd"\\r\\n\\r\\n' + b"\\r\\n" + sent[-20:])
        body = b"".join(b"--limit\\r\\n" + part + b"\\r\\n" for part in parts) + b"--limit--\\r\\n"
        self.answer(body, 'multipart/form-data; boundary="limit"')

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


def ends(process, seconds=60):
    """Whether a process ends within that time; a zombie has ended."""
    import psutil

    deadline = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def test_a_server_is_measured_with_its_children_which_end_with_it(bench, tmp_path):
    import psutil
    from servers import LabelServer

    scan, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.nrrd"
    scan.write_bytes(b"\r\n\0 scan")
    with LabelServer([sys.executable, "-c", FAKE_SERVER], "organs", tmp_path / "log.txt") as server:
        assert 0 < server.startup < 60
        assert server.info() > 0
        assert server.infer(scan, mask) > 0
        leader = psutil.Process(server.pid)
        children = leader.children()
        assert len(children) == 1
    assert mask.read_bytes().startswith(b"\r\n")  # nothing of the file is taken for the form
    assert not leader.is_running()
    assert ends(children[0])
    assert server.peak_gb > 0.1


def test_a_server_that_ends_at_once_ends_the_benchmark_with_its_words(bench, tmp_path):
    from servers import LabelServer

    with (
        pytest.raises(SystemExit, match="no such model"),
        LabelServer([sys.executable, "-c", "raise SystemExit('no such model')"], "organs", tmp_path / "log.txt"),
    ):
        pass
