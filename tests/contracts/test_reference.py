"""The reference pages agree with the settings and the tables of layouts and formats."""

import importlib.util


def test_reference_pages_are_up_to_date(project):
    folder = project / "docs" / "reference"
    spec = importlib.util.spec_from_file_location("generate", folder / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, contents in generate.PAGES.items():
        written = (folder / name).read_text(encoding="utf-8")
        assert written == generate.page(*contents), f"run python docs/reference/generate.py: {name} is out of date"
    datasets = (folder / "datasets.md").read_text(encoding="utf-8")
    assert datasets == generate.with_tables(datasets), (
        "run python docs/reference/generate.py: datasets.md is out of date"
    )
    dicom = (project / "docs" / "how-to" / "dicom.md").read_text(encoding="utf-8")
    assert dicom == generate.with_structures(dicom), "run python docs/reference/generate.py: dicom.md is out of date"
    for suffix in (".nii.gz", ".npy"):
        assert f"`{suffix}`" in datasets
