"""Write the settings pages, and the tables of layouts and formats: python docs/reference/generate.py"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from attunet.config import (
    Localizer,
    MeasuredPrediction,
    NetworkConfig,
    Normalization,
    Plan,
    Postprocessing,
    PredictionChoice,
    Preprocessing,
    Settings,
    TrainingConfig,
)
from attunet.data.formats import FORMATS
from attunet.data.layouts import LAYOUTS

PAGES: dict[str, tuple[str, str, type[Settings]]] = {
    "training.md": (
        "Training settings",
        "The keys of a recipe (`--recipe FILE`) and of `training.yaml`.",
        TrainingConfig,
    ),
    "network.md": ("Network settings", "The arguments of `AttentionUNet` and the `network` of a plan.", NetworkConfig),
    "plan.md": ("Plan", "The keys of `plan.json`; edit them and train with `--plan`.", Plan),
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

TOO_LARGE_TO_MATTER = 1e6


def page(title: str, intro: str, settings: type[Settings]) -> str:
    """A Markdown page with a table of the fields, their defaults and descriptions.

    Args:
        title: heading of the page.
        intro: a sentence that introduces the table.
        settings: the class whose fields are listed.
    Returns: the page.
    """
    rows = [f"# {title}\n\n{intro} Unknown keys are refused.\n\n| key | default | what it is |\n|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"
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
    pages = {settings: name for name, (_title, _intro, settings) in PAGES.items()}
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
    for name, contents in PAGES.items():
        (Path(__file__).parent / name).write_text(page(*contents), encoding="utf-8")


if __name__ == "__main__":
    main()
