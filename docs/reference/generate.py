"""Write the reference pages of the settings from their fields: python docs/reference/generate.py"""

from pathlib import Path

from attunet.config import NetworkConfig, Plan, Preprocessing, Refinement, Settings, TrainingConfig

PAGES: dict[str, tuple[str, str, type[Settings]]] = {
    "training.md": (
        "Training settings",
        "The keys of a recipe (`--recipe FILE`) and of `training.yaml`.",
        TrainingConfig,
    ),
    "network.md": ("Network settings", "The arguments of `AttentionUNet` and the `network` of a plan.", NetworkConfig),
    "plan.md": ("Plan", "The keys of `plan.json`; edit them and train with `--plan`.", Plan),
    "refinement.md": (
        "Refinement",
        "The keys of `refinement.json`, which a cross-validation writes and every prediction applies.",
        Refinement,
    ),
    "preprocessing.md": ("Preprocessing", "The `preprocessing` of a plan.", Preprocessing),
}


def page(title: str, words: str, settings: type[Settings]) -> str:
    """A Markdown table of the fields, their defaults and their sentences."""
    rows = [f"# {title}\n\n{words} Unknown keys are refused.\n\n| key | default | what it is |\n|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"
        kind = getattr(field.annotation, "__name__", "")
        rows.append(f"| `{name}` | {default} | {field.description or kind} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write every page beside this file."""
    for name, contents in PAGES.items():
        (Path(__file__).parent / name).write_text(page(*contents), encoding="utf-8")


if __name__ == "__main__":
    main()
