"""`attunet predict`: masks for new scans, in their own format and on their own grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attunet.cli.cluster_options import (
    AddressOption,
    CpusOption,
    EngineOption,
    GpusOption,
    WorkersOption,
    parse_workers,
)
from attunet.cli.cluster_run import predict_on_ray
from attunet.cli.console import progress_bar
from attunet.cli.dataset_options import (
    AllowOutsideOption,
    FrameOption,
    KeyOption,
    PatternOption,
    dataset_options,
)
from attunet.cli.dicom_options import CaseNameOption, SeriesOption, series_choice
from attunet.cli.options import DeviceOption, parse_folds, parse_memory, parse_time
from attunet.cli.peers import CredentialsOption, SendOption, local_paths, parse_send, send_results
from attunet.cli.prediction_outputs import (
    OutputLayoutOption,
    OutputTypeOption,
    destination_of,
    hook_of,
    types_and_paths,
)
from attunet.cli.prediction_run import (
    BatchDisplay,
    show_choice,
    show_estimates,
    show_left_out,
    show_resume,
    show_statistics,
    show_summary,
)
from attunet.errors import AttunetError, ConfigError

if TYPE_CHECKING:
    from attunet.cluster.prediction import PredictionWork
    from attunet.cluster.ray_worker import RayWorkers
    from attunet.data.cases import Case
    from attunet.inference.segmenter import Segmenter

__all__ = ["predict"]


def predict(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Option("-m", "--model", metavar="RUN", help="Model folder made by `attunet train` or `attunet select`."),
    ],
    images: Annotated[
        list[str],
        typer.Option(
            "-i",
            "--input",
            metavar="PATH",
            help="Image file, folder of images or DICOM, or such as dicomweb://host/path/studies/UID; repeat for more.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the masks.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    fold: Annotated[
        str,
        typer.Option(
            help="Folds whose probabilities are averaged: numbers such as 0 or 0,2; all; or auto, as the model decided."
        ),
    ] = "auto",
    tta: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(help="Average over mirrored copies (test-time augmentation); auto: as the model decided, or on."),
    ] = "auto",
    disable_tta: Annotated[bool, typer.Option("--disable-tta", help="The same as --tta off.")] = False,
    step_size: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Step between windows, as a fraction of the patch.")
    ] = 0.5,
    output_layout: OutputLayoutOption = "flat",
    output_type: OutputTypeOption = None,
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities",
            help="Write DIR/probabilities: a channel per label or region; beside dicom-seg a fractional segmentation.",
        ),
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Write DIR/attention: each gate's coefficients on the image grid.")
    ] = False,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics", help="Print volumes in ml and predicted Dice with their intervals; write statistics.json."
        ),
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Draw DIR/preview: a PNG for each case.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a JSON record of the run, with the places where attention and mask disagree."
        ),
    ] = None,
    continue_prediction: Annotated[
        bool, typer.Option("--continue-prediction", help="Skip cases that already have a mask.")
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="GB",
            help="Memory limit of predictions, such as 4GB; slower if necessary. Writing DICOM objects is outside it.",
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--time-limit", metavar="TIME", help="Time limit per case, such as 30s; uses fewer windows if necessary."
        ),
    ] = None,
    all_windows: Annotated[
        bool,
        typer.Option("--all-windows", help="Run every window, also far from what the localizer found, and in air."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only read and preprocess the cases, and estimate windows and peak memory."),
    ] = False,
    pattern: PatternOption = None,
    frame: FrameOption = None,
    allow_outside: AllowOutsideOption = False,
    key: KeyOption = None,
    series: SeriesOption = None,
    case_name: CaseNameOption = None,
    send: SendOption = None,
    credentials: CredentialsOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    cpus_per_worker: CpusOption = None,
    gpus_per_worker: GpusOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["auto", "bf16", "fp32", "int8"],
        typer.Option(
            help="auto: 8-bit integers where the model has them and they were faster, else bf16 if the CPU has it."
        ),
    ] = "auto",
) -> None:
    """Segment images; masks have each image's format, grid and orientation, and the label values of the training data.

    One unusable file does not stop the others: it is listed at the end, and the exit code is 1, or 2 if all files are
    unusable. Masks, statistics and the report are written case by case, so that a stop (Ctrl-C, SIGTERM, even a kill)
    loses none that is finished: --continue-prediction goes on from there.
    """
    from attunet.cluster.prediction import PredictionWork
    from attunet.data.cases import find_cases
    from attunet.inference.batch_record import RecordFiles
    from attunet.inference.prediction import PredictOptions
    from attunet.inference.segmenter import Segmenter

    cluster = parse_workers(engine, address, workers, cpus_per_worker, gpus_per_worker)
    memory, seconds = parse_memory(max_memory, "--max-memory"), parse_time(time_limit, "--time-limit")
    mirror = _mirror(tta, disable_tta)
    types, more = types_and_paths(output_type, more or [])
    chosen: Sequence[int] | Literal["all"] | None = None if fold == "auto" else parse_folds(fold) or "all"
    segmenter = Segmenter.load(model, folds=chosen, device=device, precision=precision)
    destination = destination_of(segmenter, types, output_layout, attention=attention, probabilities=save_probabilities)
    peer = parse_send(send, destination)
    cases = find_cases(
        local_paths(context, [*images, *more], credentials),
        len(segmenter.plan.channel_names),
        dataset_options(pattern=pattern, frame=frame, allow_outside=allow_outside, key=key),
        names=segmenter.plan.channel_names,
        series=series_choice(series, case_name, output, dry_run=dry_run),
        on_left_out=show_left_out,
    )
    gated = any(member.plan.network.gate_widths for member in segmenter.members)
    agreement = gated and report is not None
    wanted = "--attention" if attention else "dicom-attention" if destination.attention else None
    if wanted and not gated and not any(member.localizers for member in segmenter.members):
        raise ConfigError(f"{wanted} needs a model with gates", hint="leave it out, or train with a gate")
    options = PredictOptions(
        step_size=step_size,
        mirror=mirror,
        probabilities=save_probabilities,
        attention=attention or agreement,
        all_windows=all_windows,
        max_memory=None if memory is None else int(memory * 2**30),
        time_limit=seconds,
    )
    if dry_run:
        raise typer.Exit(2 if show_estimates(segmenter, cases, options) else 0)
    show_choice(segmenter, automatic=chosen is None, options=options)
    started = time.perf_counter()
    record = RecordFiles(
        model,
        segmenter,
        {
            **asdict(options),
            "mirror": segmenter.mirrors(options),
            "attention": attention,
            "preview": preview,
            "agreement": agreement,
        },
        statistics=output / "statistics.json" if statistics else None,
        report=report,
        extend=continue_prediction,
    )
    masked = [case for case in cases if continue_prediction and destination.done(case, output)]
    existing = [case.id for case in masked if record.has(case.id)]
    again = [case.id for case in masked if not record.has(case.id)]
    work = PredictionWork(
        model=model,
        output=output,
        folds=chosen,
        device=device,
        precision=precision,
        manifest=segmenter.manifest,
        options=options,
        destination=destination,
        save_attention=attention,
        on_prediction=hook_of(
            output.absolute() / "preview" if preview else None,
            agreement=agreement,
            attention=attention,
            modality=segmenter.plan.modality,
        ),
        cores=0 if cluster is None else cluster.cpus,
    )
    with progress_bar() as progress:
        display = BatchDisplay(progress, cases, existing, again, record.add)
        remaining = [case for case in cases if case.id not in existing]
        try:
            _segment(segmenter, work, remaining, cluster, display)
        except BaseException:
            with suppress(AttunetError):
                record.write()
            if display.results:
                show_summary(display.results, output, time.perf_counter() - started, len(remaining))
                show_resume()
            raise
    record.write()
    if statistics:
        show_statistics(display.results, segmenter)
    show_summary(display.results, output, time.perf_counter() - started)
    failed = [result for result in display.results if result.error]
    unsent = send_results(peer, display.results, credentials)
    if failed or unsent:
        raise typer.Exit(2 if failed and len(failed) == len(cases) else 1)


def _segment(
    segmenter: Segmenter,
    work: PredictionWork,
    cases: Sequence[Case],
    cluster: RayWorkers | None,
    display: BatchDisplay,
) -> None:
    """Predict cases in this process, or on the workers of a cluster. Raises: as `predict_cases`."""
    from attunet.inference.batch import predict_cases

    if cluster is not None:
        predict_on_ray(segmenter, work, cases, cluster, display)
        return
    predict_cases(
        segmenter,
        cases,
        work.output,
        work.options,
        destination=work.destination,
        save_attention=work.save_attention,
        on_prediction=work.on_prediction,
        on_result=display.on_result,
        progress=display.on_windows,
    )


_MIRROR = {"auto": None, "on": True, "off": False}


def _mirror(tta: str, disable_tta: bool) -> bool | None:
    """Whether mirrored copies are averaged; None for the model's decision. Raises: ConfigError for a contradiction."""
    if disable_tta and tta == "on":
        raise ConfigError("predict got --tta on together with --disable-tta", hint="give one of them")
    return False if disable_tta else _MIRROR[tta]
