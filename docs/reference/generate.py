"""Write the settings pages, and the tables of layouts and formats: python docs/reference/generate.py"""

import re
from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from attunet.config import (
    ChannelRanges,
    FingerprintSummary,
    ImageRanges,
    Localizer,
    MeasuredPrediction,
    NetworkConfig,
    Normalization,
    Plan,
    Postprocessing,
    PredictionChoice,
    Preprocessing,
    SegmentCode,
    Settings,
    TrainingConfig,
)
from attunet.data.formats import FORMATS
from attunet.data.layouts import LAYOUTS
from attunet.dicom.node.settings import (
    DestinationSettings,
    NodeSettings,
    PageSettings,
    PeerSettings,
    QuerySettings,
    ReceiveSettings,
    RetrySettings,
    RuleSettings,
    WatchSettings,
)
from attunet.dicom.objects.codes import structures
from attunet.dicom.objects.outputs import DICOM_TYPES

PAGES: dict[str, tuple[Any, ...]] = {
    "training.md": (
        "Training settings",
        "The keys of a recipe (`--recipe FILE`) and of `training.yaml`.",
        TrainingConfig,
    ),
    "network.md": ("Network settings", "The arguments of `AttentionUNet` and the `network` of a plan.", NetworkConfig),
    "plan.md": (
        "Plan",
        "The keys of `plan.json`; edit them and train with `--plan`.",
        Plan,
        FingerprintSummary,
        ImageRanges,
        ChannelRanges,
    ),
    "localizer.md": ("Localizer", "The `localizer` of a plan: the first stage of a cascade.", Localizer),
    "postprocessing.md": (
        "Post-processing",
        "The keys of `postprocessing.json`: what was decided on held-out cases, which every prediction applies.",
        Postprocessing,
    ),
    "prediction.md": (
        "Choice of prediction",
        "The `prediction` of `postprocessing.json`: mirrored copies and folds, unless `--tta` or `--fold` is given.",
        PredictionChoice,
    ),
    "measured-prediction.md": ("Dice against seconds", "One row of `measured` in `prediction`.", MeasuredPrediction),
    "preprocessing.md": ("Preprocessing", "The `preprocessing` of a plan.", Preprocessing),
    "normalization.md": ("Normalization", "One entry of `normalization` in `preprocessing`.", Normalization),
}

PAGES["dicom-node.md"] = (
    "DICOM node",
    "The keys of the file that `attunet dicom node` gets ([how to use it](../how-to/dicom-node.md)), times in seconds.",
    NodeSettings,
    ReceiveSettings,
    PeerSettings,
    WatchSettings,
    QuerySettings,
    RuleSettings,
    DestinationSettings,
    RetrySettings,
    PageSettings,
)

PAGES["segment-code.md"] = (
    "Codes of labels",
    "What `codes` in `dataset.json` and in a plan says of one label ([how to use it](../how-to/dicom.md#coded-names)).",
    SegmentCode,
)

TOO_LARGE_TO_MATTER = 1e6


def page(title: str, intro: str, settings: type[Settings], *parts: type[Settings]) -> str:
    """A Markdown page with a table of the fields, their defaults and descriptions.

    Args:
        title: heading of the page.
        intro: a sentence that introduces the table.
        settings: the class whose fields are listed.
        parts: classes of its fields, which get tables of their own below.
    Returns: the page.
    """
    tables = [f"# {title}\n\n{intro} Unknown keys are refused.\n\n{_fields(settings, parts)}"]
    for part in parts:
        holders = [
            f"`{name}`"
            for other in (settings, *parts)
            for name, field in other.model_fields.items()
            if part in (field.annotation, *get_args(field.annotation))
        ]
        tables.append(f"## {' and '.join(holders)}\n\n{getdoc(part)}\n\n{_fields(part, parts)}")
    return "\n".join(tables)


def _fields(settings: type[Settings], parts: Sequence[type[Settings]]) -> str:
    rows = ["| key | default | what it is |\n|---|---|---|"]
    for name, field in settings.model_fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        default = "required" if field.is_required() else "see below" if type(value) in parts else f"`{value}`"
        choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
        sentences = [field.description or _kind(field.annotation), *([f"One of {choices}."] if choices else [])]
        sentences += _range(field.metadata)
        rows.append(f"| `{name}` | {default} | {' '.join(sentences)} |")
    return "\n".join(rows) + "\n"


def _range(metadata: Sequence[Any]) -> list[str]:
    """A sentence about the numbers that a field accepts; none where any that makes sense is accepted."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bounds = [(word, getattr(part, name, None)) for part in metadata for name, word in words.items()]
    limits = [f"{word} {bound:,}" for word, bound in bounds if bound is not None and abs(bound) < TOO_LARGE_TO_MATTER]
    return [" and ".join(limits).capitalize() + "."] if limits else []


def _kind(annotation: Any) -> str:
    """A link to the page of a settings class, or the name of another type."""
    pages = {contents[2]: name for name, contents in PAGES.items()}
    name = annotation.__name__
    return f"[{name}]({pages[annotation]})" if annotation in pages else name


def _choices(annotation: Any) -> list[str]:
    """The literal values that a field accepts; empty for other types."""
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    inner = [choice for part in get_args(annotation) for choice in _choices(part)]
    return [*inner, "null"] if inner and type(None) in get_args(annotation) else inner


def with_tables(text: str) -> str:
    """Replace the tables of layouts and formats in the page of data sets."""
    layouts = [(f"{layout.title} (`{layout.name}`)", f"{layout.recognised_by}. {layout.details}") for layout in LAYOUTS]
    formats = [
        (
            entry.name,
            ", ".join(f"`{suffix}`" for suffix in entry.suffixes),
            entry.holds,
            "yes" if entry.geometry else "no",
            "yes" if entry.lossless else "no",
            f"`{entry.masks}`" if entry.masks else "as the image",
        )
        for entry in FORMATS
    ]
    text = _replaced(text, "layouts", _table(("layout", "recognised by"), layouts))
    return _replaced(
        text, "formats", _table(("format", "suffixes", "images", "spacing and position", "lossless", "masks"), formats)
    )


def with_structures(text: str) -> str:
    """Replace the tables of DICOM objects and of coded structures in the page about DICOM."""
    objects = [(f"`{name}`", kind.holds, f"`CASE{kind.marker}`") for name, kind in DICOM_TYPES.items()]
    names = {structure.names: structure for structure in structures().values()}
    coded = [
        (", ".join(all_names), f"{structure.code[1]} {structure.code[0]}", structure.code[2], structure.category)
        for all_names, structure in names.items()
    ]
    text = _replaced(text, "objects", _table(("type", "what it holds", "file"), objects))
    return _replaced(text, "structures", _table(("label", "code", "meaning", "category"), coded))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _replaced(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    return re.sub(f"{begin}.*?{end}", lambda _match: f"{begin}\n{table}\n{end}", text, count=1, flags=re.DOTALL)


def main() -> None:
    """Write every page into the folder of this file."""
    datasets = Path(__file__).parent / "datasets.md"
    datasets.write_text(with_tables(datasets.read_text(encoding="utf-8")), encoding="utf-8")
    dicom = Path(__file__).parents[1] / "how-to" / "dicom.md"
    dicom.write_text(with_structures(dicom.read_text(encoding="utf-8")), encoding="utf-8")
    for name, contents in PAGES.items():
        (Path(__file__).parent / name).write_text(page(*contents), encoding="utf-8")


if __name__ == "__main__":
    main()
