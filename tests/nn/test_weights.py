"""Weight files: round trip, and every kind of bad file as an error with a remedy."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from attunet.errors import BundleError, FormatError
from attunet.nn import AttentionUNet, load_weights, paper, read_weights, save_weights


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("touched-by-pickle"),)


def small(out_channels: int = 2) -> AttentionUNet:
    return paper(channels=(2, 4, 6), spatial_dims=2, out_channels=out_channels).eval()


def test_round_trip(tmp_path):
    network, other = small(), small()
    save_weights(network.to(memory_format=torch.channels_last), tmp_path / "weights.safetensors")
    load_weights(tmp_path / "weights.safetensors", other)
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(network(x), other(x))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_other_settings_are_a_bundle_error(tmp_path):
    save_weights(small(), tmp_path / "weights.safetensors")
    with pytest.raises(BundleError, match="does not fit"):
        load_weights(tmp_path / "weights.safetensors", small(out_channels=3))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_reads_what_others_write(tmp_path, name):
    network, path = small(), tmp_path / name
    if path.suffix == ".safetensors":
        save_weights(network, path)
    else:
        wrapped = {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}
        torch.save(wrapped, path)
    assert read_weights(path).keys() == network.state_dict().keys()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": Payload()}, tmp_path / "code.pth")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Payload()))
    for name in ("code.pth", "raw.pt"):
        with pytest.raises(FormatError, match="code") as refused:
            read_weights(tmp_path / name)
        assert "state_dict" in refused.value.hint
    assert not (tmp_path / "touched-by-pickle").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 40, None])
def test_corrupted_files_are_format_errors(tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        network = small()
        torch.save(network.state_dict(), path) if path.suffix == ".pth" else save_weights(network, path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(FormatError, match=name):
        read_weights(path)


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors", "notes.txt"])
def test_missing_and_unknown_files_are_format_errors(tmp_path, name):
    with pytest.raises(FormatError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [torch.zeros(3), {"epoch": 1}, [1, 2]])
def test_files_without_named_weights_are_format_errors(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"w\.pth"):
        read_weights(tmp_path / "w.pth")


def test_a_checkpoint_of_our_training_gives_its_averaged_weights(tmp_path):
    trained, averaged = small().state_dict(), small().state_dict()
    state = {f"network.{key}": value for key, value in trained.items()}
    state |= {f"averaged.module.{key}": value for key, value in averaged.items()}
    torch.save({"state_dict": state | {"averaged.n_averaged": torch.tensor(3)}}, tmp_path / "last.ckpt")
    found = read_weights(tmp_path / "last.ckpt")
    assert found.keys() == averaged.keys()
    assert all(value.equal(averaged[key]) for key, value in found.items())


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page", "download"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML", "download"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5", "PyTorch"),
        (b"\x1f\x8b\x08" + bytes(90), "gzip", "unpack"),
    ],
    ids=["pointer", "web page", "XML", "HDF5", "gzip"],
)
def test_what_is_often_taken_for_weights_is_named(name, content, words, remedy, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=words) as refused:
        read_weights(tmp_path / name)
    assert remedy in refused.value.hint


def test_a_truncated_file_a_program_and_another_archive_are_named(tmp_path):
    torch.save(small().state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:3000])
    torch.save(small().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "old_cut.pth").write_bytes((tmp_path / "old.pth").read_bytes()[:900])
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 3)), tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("weights.txt", "none")
    for name, words in {"cut": "truncated", "old_cut": "truncated", "other": "zip archive"}.items():
        with pytest.raises(FormatError, match=words):
            read_weights(tmp_path / f"{name}.pth")
    with pytest.raises(FormatError, match="TorchScript") as refused:
        read_weights(tmp_path / "script.pt")
    assert "state_dict" in refused.value.hint
    assert read_weights(tmp_path / "old.pth").keys() == small().state_dict().keys()


def test_the_content_decides_the_format(tmp_path):
    save_weights(small(), tmp_path / "pytorch_model.bin")
    assert read_weights(tmp_path / "pytorch_model.bin").keys() == small().state_dict().keys()


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    weights = small().state_dict()
    next(iter(weights.values()))[0] = float("nan")
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(FormatError, match="not numbers") as refused:
        read_weights(tmp_path / "w.pth")
    assert "earlier checkpoint" in refused.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: (value * 100).to(torch.int8), "holds int8"),
        (lambda value: value.to(torch.complex64), "holds complex64"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "no values"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused_rather_than_copied(change, words, tmp_path):
    torch.save({key: change(value) for key, value in small().state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=words) as refused:
        read_weights(tmp_path / "w.pth")
    assert "float32" in refused.value.hint


def test_negative_variances_are_refused(tmp_path):
    torch.save({"norm.running_var": torch.tensor([1.0, -1.0])}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match="negative variances"):
        read_weights(tmp_path / "w.pth")
