"""`attunet predict`: masks for new scans, in their own format and on their own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import typer

from attunet.cli.cluster_options import (
    AddressOption,
    CpusOption,
    EngineOption,
    GpusOption,
    NumPartsOption,
    PartOption,
    SummaryOption,
    WorkersOption,
    parse_part,
    parse_workers,
)
from attunet.cli.cluster_run import predict_on_ray
from attunet.cli.dataset_options import (
    AllowOutsideOption,
    FrameOption,
    KeyOption,
    PatternOption,
    dataset_options,
)
from attunet.cli.dicom_options import CaseNameOption, SeriesOption, series_choice
from attunet.cli.options import DeviceOption, parse_folds, parse_memory, parse_time
from attunet.cli.peers import CredentialsOption, SendOption, parse_send, send_results
from attunet.cli.places import input_places, open_output
from attunet.cli.predict_options import (
    AllWindowsOption,
    AttentionOption,
    ContinueOption,
    DisableTtaOption,
    DryRunOption,
    FoldsOption,
    InputOption,
    MaxMemoryOption,
    ModelOption,
    OutputOption,
    PrecisionOption,
    PreviewOption,
    ProbabilitiesOption,
    ReportOption,
    StatisticsOption,
    StepSizeOption,
    TimeLimitOption,
    TtaOption,
)
from attunet.cli.prediction_batch import PredictionBatch
from attunet.cli.prediction_outputs import (
    OutputLayoutOption,
    OutputTypeOption,
    destination_of,
    hook_of,
    types_and_paths,
)
from attunet.cli.prediction_run import show_choice, show_estimates, show_left_out
from attunet.errors import ConfigError

__all__ = ["predict"]


def predict(
    context: typer.Context,
    model: ModelOption,
    images: InputOption,
    output: OutputOption,
    more: Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    fold: FoldsOption = "auto",
    tta: TtaOption = "auto",
    disable_tta: DisableTtaOption = False,
    step_size: StepSizeOption = 0.5,
    output_layout: OutputLayoutOption = "flat",
    output_type: OutputTypeOption = None,
    save_probabilities: ProbabilitiesOption = False,
    attention: AttentionOption = False,
    statistics: StatisticsOption = False,
    preview: PreviewOption = False,
    report: ReportOption = None,
    continue_prediction: ContinueOption = False,
    max_memory: MaxMemoryOption = None,
    time_limit: TimeLimitOption = None,
    all_windows: AllWindowsOption = False,
    dry_run: DryRunOption = False,
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
    num_parts: NumPartsOption = None,
    part: PartOption = None,
    summary: SummaryOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Segment images; masks have each image's format, grid and orientation, and the label values of the training data.

    One unusable file does not stop the others: it is listed at the end, and the exit code is 1, or 2 if all files are
    unusable. Masks, statistics and the report are written case by case, so that a stop (Ctrl-C, SIGTERM, even a kill)
    loses none that is finished: --continue-prediction goes on from there.
    """
    from attunet.cluster.prediction import PredictionWork
    from attunet.data.inputs import find_inputs
    from attunet.data.layouts.dicom_cases import SALT_FILE
    from attunet.inference.batch import predict_cases
    from attunet.inference.prediction import PredictOptions
    from attunet.inference.segmenter import Segmenter

    cluster = parse_workers(engine, address, workers, cpus_per_worker, gpus_per_worker)
    own_part = parse_part(part, num_parts, engine)
    memory, seconds = parse_memory(max_memory, "--max-memory"), parse_time(time_limit, "--time-limit")
    mirror = _mirror(tta, disable_tta)
    types, more = types_and_paths(output_type, more or [])
    chosen: Sequence[int] | Literal["all"] | None = None if fold == "auto" else parse_folds(fold) or "all"
    segmenter = Segmenter.load(model, folds=chosen, device=device, precision=precision)
    place = open_output(context, output)
    destination = replace(
        destination_of(segmenter, types, output_layout, attention=attention, probabilities=save_probabilities),
        store=place.store,
    )
    peer = parse_send(send, destination)
    place.check(send, preview=preview and cluster is not None)
    place.fetch(SALT_FILE)
    cases = find_inputs(
        input_places(context, [*images, *more], credentials, cluster=None if cluster is None else cluster.address),
        len(segmenter.plan.channel_names),
        dataset_options(pattern=pattern, frame=frame, allow_outside=allow_outside, key=key),
        names=segmenter.plan.channel_names,
        series=series_choice(series, case_name, place.folder, dry_run=dry_run),
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
    place.keep_first(SALT_FILE)
    show_choice(segmenter, automatic=chosen is None, options=options)
    work = PredictionWork(
        model=model,
        output=place.folder,
        folds=chosen,
        device=device,
        precision=precision,
        manifest=segmenter.manifest,
        options=options,
        destination=destination,
        save_attention=attention,
        on_prediction=hook_of(
            place.folder.absolute() / "preview" if preview else None,
            agreement=agreement,
            attention=attention,
            modality=segmenter.plan.modality,
        ),
        cores=0 if cluster is None else cluster.cpus,
    )
    batch = PredictionBatch(
        segmenter=segmenter,
        work=work,
        place=place,
        agreement=agreement,
        preview=preview,
        statistics=statistics,
        report=report,
        summary=summary,
        resumed=continue_prediction,
        part=own_part,
        workers=cluster,
    )
    with batch.open(cases) as (missing, display):
        if cluster is not None:
            predict_on_ray(segmenter, work, missing, cluster, display)
        else:
            predict_cases(
                segmenter,
                missing,
                place.folder,
                options,
                destination=destination,
                save_attention=attention,
                on_prediction=work.on_prediction,
                on_result=display.on_result,
                progress=display.on_windows,
            )
    results = display.results
    failed = [result for result in results if result.error]
    unsent = send_results(peer, results, credentials)
    if failed or unsent:
        raise typer.Exit(2 if failed and len(failed) == len(cases) else 1)


_MIRROR = {"auto": None, "on": True, "off": False}


def _mirror(tta: str, disable_tta: bool) -> bool | None:
    """Whether mirrored copies are averaged; None for the model's decision. Raises: ConfigError for a contradiction."""
    if disable_tta and tta == "on":
        raise ConfigError("predict got --tta on together with --disable-tta", hint="give one of them")
    return False if disable_tta else _MIRROR[tta]
