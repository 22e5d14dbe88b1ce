"""Fixtures for tests of several packages: tiny data sets that are learnt in seconds, plans, random models."""

import os
import shutil
import signal
import traceback
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import settings

from attunet.config import (
    ChannelRanges,
    FingerprintSummary,
    ImageRanges,
    Localizer,
    Normalization,
    Plan,
    Preprocessing,
    TrainingConfig,
    load_settings,
)
from attunet.data.folds import Split
from attunet.data.orientation import oriented
from attunet.data.resample import resize
from attunet.networks import default_network

# A busy machine is slow, not wrong.
settings.register_profile("attunet", deadline=None)
settings.load_profile("attunet")

SHAPE = (24, 24, 16)


def write_blob(folder, name, seed, *, value=1, second=None, ignored=None, shape=SHAPE):
    """A noisy volume with a bright ball labelled `value`, perhaps a dark one `second` and a border `ignored`."""
    random = np.random.default_rng(seed)
    image = random.normal(0, 0.3, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    grid = np.indices(shape)
    for mark, light in ((value, 3.0), (second, -3.0)):
        if mark is not None:
            centre = [random.integers(6, edge - 5) for edge in shape]
            inside = sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) < 20
            image[inside] += light
            label[inside] = mark
    if ignored is not None:
        label[:4] = ignored
    for kind, array in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"{name}.nii")


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard():
    """A shell has Ctrl-C ignored in its background jobs; programs that the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def write_blobs():
    """A function that fills a folder with labelled volumes case0, case1, ... and returns the folder."""

    def write(folder: Path, cases=4, **how):
        for index in range(cases):
            write_blob(folder, f"case{index}", index, **how)
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_plan():
    """A function that makes a plan for those volumes; keyword arguments replace its fields."""

    def make(**changes):
        dims = changes.pop("dims", 3)
        labels = changes.pop("labels", {"background": 0, "blob": 1})
        network = default_network(
            spatial_dims=dims,
            in_channels=1,
            out_channels=len(labels),
            channels=(8, 12, 16),
            strides=((2,) * dims,) * 2,
            kernel_sizes=((3,) * dims,) * 3,
        )
        fields = {
            "name": "blobs",
            "labels": labels,
            "channel_names": ("light",),
            "preprocessing": Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(Normalization(kind="zscore"),)),
            "patch_size": (16, 16, 8) if dims == 3 else (16, 16, 1),
            "batch_size": 2,
            "network": network,
            "fingerprint": FingerprintSummary(
                cases=4, channels=1, median_shape=SHAPE, median_spacing=(1.0, 1.0, 1.0), label_voxels={"blob": 80}
            ),
            "reasons": {},
        }
        return Plan(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_config():
    """A function that makes settings for a training of a second; keyword arguments replace them."""

    def make(**changes):
        settings = {
            "epochs": 2,
            "steps_per_epoch": 3,
            "warmup_steps": 1,
            "folds": 2,
            "workers": 0,
            "precision": "fp32",
            "validation_fraction": 1.0,
            "case_images": False,  # they take longer than such a training
        }
        return TrainingConfig(**{**settings, **changes})

    return make


def plan_of(spatial_dims=3, *, in_channels=1, labels=None, gate="grid", spacing=(1.0, 1.0, 1.0), **fields):
    """A plan of a network of three levels; two foreground labels, unless others are given."""
    labels = labels or {"background": 0, "body": 1, "lesion": 7}
    patch = (16, 12, 8) if spatial_dims == 3 else (16, 12, 1)
    network = default_network(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=len(fields.get("regions") or labels),
        channels=(4, 6, 8),
        strides=((2,) * spatial_dims,) * 2,
        kernel_sizes=((3,) * spatial_dims,) * 3,
        gate=gate,
    )
    return Plan(
        name="tiny",
        labels=labels,
        channel_names=tuple(f"channel {index}" for index in range(in_channels)),
        preprocessing=Preprocessing(spacing=spacing, normalization=(Normalization(kind="zscore"),) * in_channels),
        patch_size=patch,
        batch_size=2,
        network=network,
        fingerprint=FingerprintSummary(
            cases=3, channels=in_channels, median_shape=patch, median_spacing=spacing, label_voxels={}
        ),
        reasons={"network": "small enough for a test"},
        **fields,
    )


def random_network(plan, seed=0):
    """The plan's network with random weights, whose logits and gates vary from voxel to voxel."""
    import torch

    from attunet.nn import AttentionUNet

    torch.manual_seed(seed)
    network = AttentionUNet.from_config(plan.network).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "psi" in name or name.startswith("heads."):
                parameter.normal_(std=2.0) if name.endswith("weight") else parameter.zero_()
            if name == "heads.level1.weight":  # no class wins everywhere
                parameter -= parameter.mean(dim=1, keepdim=True)
    return network


def cascade(plan, *, context="labels", factor=2, **changes):
    """The plan with a tiny localizer on a grid that is coarser by this factor, within slices for a 2-D network."""
    dims = plan.network.spatial_dims
    factors = (factor,) * dims + (1,) * (3 - dims)
    more = {"labels": len(plan.foreground), "foreground": 1, "none": 0}[context]
    localizer = Localizer(
        spacing=tuple(step * by for step, by in zip(plan.preprocessing.spacing, factors, strict=True)),
        patch_size=(8, 8, 8)[:dims] + (1,) * (3 - dims),
        batch_size=2,
        network=plan.network.model_copy(update={"channels": (4, 4, 4)}),
        context=context,
        **changes,
    )
    inputs = plan.network.in_channels + more
    fine = plan.network.model_copy(update={"in_channels": inputs})
    return Plan.model_validate({**dict(plan), "network": fine, "localizer": localizer})


@pytest.fixture(scope="session")
def make_cascade():
    """`cascade`, to give any plan of these fixtures a localizer."""
    return cascade


@pytest.fixture(scope="session")
def make_plan_of():
    """`plan_of`, for tests that need a plan and no model."""
    return plan_of


@pytest.fixture(scope="session")
def make_network():
    """`random_network` of a plan."""
    return random_network


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """Write a sealed model folder: `make_model(spatial_dims, folds=1, localizer=None, **settings of plan_of)`.

    With settings of `cascade` it has localizers, and skips windows that no localizer finds interesting.
    """
    from attunet.bundle import Skipping, fold_folder, localizer_folder, save_manifest, save_plan, write_skipping
    from attunet.export.formats import export_openvino
    from attunet.nn import save_weights

    def write(plan, folder, seed):
        network = random_network(plan, seed=seed)
        save_weights(network, folder / "weights.safetensors")
        export_openvino(network, plan, folder / "graph.xml")

    def make(spatial_dims=3, *, folds=1, localizer=None, **settings):
        root = tmp_path_factory.mktemp("model")
        plan = plan_of(spatial_dims, **settings)
        if localizer is not None:
            plan = cascade(plan, **localizer)
        save_plan(plan, root)
        for index in range(folds):
            folder = fold_folder(root, index)
            write(plan, folder, index)
            if plan.localizer is not None:
                for number in range(plan.localizer.members):
                    write(plan.coarse, localizer_folder(folder, number), 10 * index + number + 1)
                audit = {"cases": 40, "lost": 0, "skipped": 0.5, "bound": 0.072, "reason": "no voxel was lost"}
                write_skipping(Skipping(used=True, threshold=0.9, margin=1.0, **audit), folder)
        save_manifest(root)
        return root

    return make


@pytest.fixture(scope="session")
def tiny_run(make_model):
    """A model of volumes, two folds, label values 0, 1 and 7; never write into it."""
    return make_model(3, folds=2)


@pytest.fixture(scope="session")
def ranged_run(tiny_run, tmp_path_factory):
    """A copy of `tiny_run` that knows what its training was like: an MR of 1 mm; never write into it."""
    from attunet.bundle import save_manifest, save_plan

    root = shutil.copytree(tiny_run, tmp_path_factory.mktemp("ranged") / "model")
    plan = load_settings(Plan, root / "plan.json")
    ranges = ImageRanges(
        shape=((14, 20), (10, 16), (6, 10)),
        spacing=((0.8, 1.2),) * 3,
        extent=((14, 20), (10, 16), (6, 10)),
        channels=(
            ChannelRanges(
                low=(0, 5),
                high=(800, 1200),
                width=(800, 1200),
                below_zero=(0, 0),
                median_place=(0.3, 0.6),
                distinct=400,
            ),
        ),
    )
    known = plan.fingerprint.model_copy(update={"ranges": ranges})
    save_plan(plan.model_copy(update={"fingerprint": known}), root)
    save_manifest(root)
    return root


@pytest.fixture(scope="session")
def tiny_slices(make_model):
    """A model of grey pictures, label values 0 and 255, mirrored along both axes; never write into it."""
    return make_model(2, labels={"background": 0, "cell": 255}, mirror_axes=(0, 1), modality="image")


@pytest.fixture(scope="session")
def untouched_run(make_model):
    return make_model(3, folds=2, labels={"background": 0, "blob": 1})


@pytest.fixture(scope="session")
def make_folded(untouched_run, write_blobs):
    """Write a run into a folder, whose two folds validated on half of the cases each."""

    from attunet.bundle import fold_folder

    def make(folder, cases=6):
        dataset = write_blobs(folder / "blobs", cases=cases)
        run = shutil.copytree(untouched_run, folder / "run")
        parts = [tuple(f"case{index}" for index in part) for part in (range(0, cases, 2), range(1, cases, 2))]
        for fold, part in enumerate(parts):
            Split(dataset, "fail", parts[1 - fold], part).write(fold_folder(run, fold))
        return run

    return make


@pytest.fixture
def folded(make_folded, tmp_path):
    """Such a run, to be changed at will."""
    return make_folded(tmp_path)


@pytest.fixture(scope="session")
def make_interval():
    """`make_interval(...)`: an interval of 10% to either side, with other fields as given."""
    from attunet.config import IntervalCalibration

    def make(**changed):
        ends = {"level": 0.9, "cases": 40, "power": 1.0, "bound": 0.1}
        measured = {"coverage": 0.9, "thirds": (0.9, 0.85, 0.95), "typical": 2.0, "width": 0.6}
        return IntervalCalibration(**{**ends, **measured, **changed})

    return make


@pytest.fixture(scope="session")
def make_compared():
    """`make_compared(name, dice, labels, gate=...)`: a model of that Dice (cases, labels), and scores to match."""
    from attunet.evaluation.comparison import ComparedModel
    from attunet.evaluation.overlap import Counts
    from attunet.evaluation.scores import CaseScores, LabelScores
    from attunet.evaluation.summary import summarize

    def scores(dice):
        if np.isnan(dice):
            return LabelScores.absent(20_000)
        right = round(10_000 * dice)
        counts = Counts(tp=right, fp=10_000 - right, fn=10_000 - right, tn=0)
        distances = {"MSD": 10 * (1 - dice), "HD95": 30 * (1 - dice)}
        return LabelScores(counts, {**distances, "VolumeErrorMl": 0.0, "RelativeVolumeError": 0.0})

    def make(name, dice, labels, *, gate="grid", steps=None):
        cases = [
            CaseScores(f"case{row}", {label: scores(value) for label, value in zip(labels, values, strict=True)})
            for row, values in enumerate(dice)
        ]
        return ComparedModel(
            name=name,
            description=f"<{name}>",
            gate=gate,
            summary=summarize(cases, {label: value for value, label in enumerate(labels, start=1)}),
            seconds={case.case: 0.5 for case in cases},
            engine="openvino cpu bf16",
            parameters=1000,
            flops=2 * 10**9,
            patch=(16, 16, 8),
            budget="1 min per fold",
            steps=steps or {0: 100},
            minutes={0: 1.0},
        )

    return make


@pytest.fixture(scope="session")
def restore():
    """`restore(array, record, fill=0.0)`: an array (C, I, J, K) of the model grid on the original grid, whole grids."""

    def run(array, record, fill=0.0):
        result = np.full((len(array), *record.shape), fill, np.float32)
        upright = oriented(result, record.axes, record.flips)
        for target, channel in zip(upright, array, strict=True):
            target[record.box] = resize(channel, record.cropped_shape)
        return result

    return run


@pytest.fixture
def in_child():
    """Runs a function in a forked process, and fails if it does: for limits that cannot be lifted again."""

    def run(action):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                action()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return run


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the project; tests that need it are skipped where it does not exist."""
    folder = Path(__file__).parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    return folder


@pytest.fixture
def make_pacs():
    """`make_pacs(title="PACS")`: a running PACS in this process."""
    import dicom_peers

    made = []

    def make(**how):
        made.append(dicom_peers.Pacs(dicom_peers.free_port(), **how).start())
        return made[-1]

    yield make
    for pacs in made:
        pacs.stop()


@pytest.fixture(scope="session")
def gated(make_model):
    """A model with gates; never write into it."""
    return make_model(3, gate="grid")


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """`start_server(models, *words)`: a running server, which is ended with the tests."""
    from running_server import RunningServer

    started = []

    def start(models, *words, **how):
        started.append(RunningServer(tmp_path_factory.mktemp("server"), models, *words, **how))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory):
    """A NIfTI file."""
    path = tmp_path_factory.mktemp("scan") / "PATIENT_SECRET.nii.gz"
    image = np.random.default_rng(0).normal(size=(24, 20, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([-1.0, 1.0, 1.0, 1.0])), path)
    return path
