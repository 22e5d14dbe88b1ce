"""`attunet demo`: the whole life of a model on a synthetic abdomen, ending in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, results, show
from attunet.cli.options import parse_time, require_training
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.data.cases import Case
    from attunet.explanation.explanation import Explanation
    from attunet.report.cases import CaseView

__all__ = ["demo"]


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for all files.")] = Path("demo"),
    max_time: Annotated[str, typer.Option(metavar="TIME", help="How long to train.")] = "90s",
    cases: Annotated[int, typer.Option(min=4, help="Synthetic scans to train on.")] = 20,
    test_cases: Annotated[int, typer.Option(min=1, help="Synthetic scans to segment afterwards.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the phantoms and of the training.")] = 0,
) -> None:
    """Make a synthetic abdomen data set, train on it, segment new scans, score them, and write an HTML report.

    The organs are liver, spleen, kidneys and a pancreas of low contrast that can only be recognised by its
    surroundings. The report shows where the gates look, and how that developed during the training. Run again, it
    starts anew in the same folder.
    """
    require_training()
    from rich.markup import escape

    from attunet.cli.prediction_run import PredictionHook, show_case
    from attunet.cli.tables.scores import score_table
    from attunet.cli.training_progress import TrainingDisplay, stoppable
    from attunet.config import TrainingConfig
    from attunet.data.cases import find_cases, read_dataset
    from attunet.data.phantom import write_phantom_dataset
    from attunet.evaluation.evaluate import evaluate
    from attunet.evaluation.scores import scored_labels
    from attunet.explanation.report import score_sections
    from attunet.inference.batch import predict_cases
    from attunet.inference.prediction import PredictOptions
    from attunet.inference.segmenter import Segmenter
    from attunet.planning.plan_dataset import plan_dataset
    from attunet.report.training import read_history, write_training_report
    from attunet.training.fit import fit
    from attunet.training.run_folder import FoldPaths

    data, run, masks, where = (output / name for name in ("data", "model", "masks", "where"))
    _claim(output, (data, run, masks, where))
    notes().print(f"[bold]1/5[/bold] {cases} + {test_cases} synthetic scans → {escape(str(data))}")
    write_phantom_dataset(data, cases, seed, test_cases=test_cases)
    notes().print(f"[bold]2/5[/bold] training for {max_time} → {escape(str(run))}")
    source = read_dataset(data)
    plan = plan_dataset(source)
    config = TrainingConfig(max_time=parse_time(max_time), seed=seed)
    with TrainingDisplay() as display, stoppable("the same command"):
        display.on_fold_start(0, run)
        trained = fit(source, plan, config, run, store=output / "store", callbacks=display)
    notes().print(f"[bold]3/5[/bold] segmenting {test_cases} unseen scans → {escape(str(masks))}")
    unseen = find_cases([data / "imagesTs"], 1)
    segmenter, options = Segmenter.load(run), PredictOptions(attention=True)
    hook = PredictionHook(masks / "preview", agreement=False, attention=True, modality=plan.modality)
    predict_cases(segmenter, unseen, masks, options, on_prediction=hook, on_result=show_case)
    notes().print(f"[bold]4/5[/bold] where it looks → {escape(str(where))}")
    found = _explain(run, unseen, data / "labelsTs", where)
    notes().print("[bold]5/5[/bold] scores and report")
    summary = evaluate(data / "labelsTs", masks, labels=scored_labels(plan))
    summary.write(output / "summary.json")
    report = output / "report.html"
    write_training_report(
        report,
        title="Attention U-Net on a synthetic abdomen",
        subtitle=f"{cases} scans to train on, {test_cases} unseen scans segmented and scored",
        plan=plan,
        history=read_history(FoldPaths(trained.folder).log),
        summary=summary,
        views=[_view(case, data, masks) for case in unseen[:3]],
        attention_frames=FoldPaths(trained.folder).attention_frames,
        more=score_sections(found),
    )
    show(score_table(summary))
    results().print(f"report: {escape(str(report.resolve()))}", soft_wrap=True)


def _explain(run: Path, test_cases: Sequence[Case], labels: Path, output: Path) -> Explanation:
    from attunet.explanation.explain import ExplainOptions, explain

    labelled = [replace(case, label=labels / f"{case.id}.nii.gz") for case in test_cases]
    return explain(run, labelled, output, ExplainOptions(ablation=True))


def _view(case: Case, data: Path, masks: Path) -> CaseView:
    """A segmented phantom as it lies on disk."""
    from attunet.data.formats import read_volume
    from attunet.report.cases import CaseView

    gates = sorted((masks / "attention").glob(f"{case.id}_*.nii.gz"))
    return CaseView(
        name=case.id,
        image=read_volume(case.images[0]),
        segmentation=read_volume(masks / f"{case.id}.nii.gz"),
        reference=read_volume(data / "labelsTs" / f"{case.id}.nii.gz"),
        attention={gate.name.removeprefix(f"{case.id}_").removesuffix(".nii.gz"): read_volume(gate) for gate in gates},
    )


def _claim(output: Path, folders: tuple[Path, ...]) -> None:
    """Clear what an earlier demo left. Raises: ConfigError when something else goes by those names."""
    import shutil

    from attunet.files import write_text

    mark = output / ".attunet-demo"
    foreign = [folder for folder in folders if folder.exists() and not mark.exists()]
    if foreign:
        raise ConfigError(f"{foreign[0]} exists and was not made by the demo", hint="choose another folder with -o")
    write_text(mark, "This folder was made by `attunet demo`, which clears it when run again.\n")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
