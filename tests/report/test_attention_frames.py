import json

import nibabel
import numpy as np
import pytest

from attunet.errors import AttunetError, ConfigError, DataError
from attunet.report.attention_frames import MAX_FRAMES, read_attention_frames

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
COARSE = AFFINE @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1.0]])


def save(array, affine, path):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def write_frames(tmp_path):
    """Frames of one case: an organ off the middle, and a map on a coarser grid that brightens where the organ is."""

    def write(frames=3, gates=("level2", "level3"), shape=SHAPE, **index):
        label = np.zeros(shape, np.uint8)
        label[6:10, 2:6, :4] = 5
        save(np.random.default_rng(0).normal(size=shape).astype(np.float32), AFFINE, tmp_path / "a_image.nii.gz")
        save(label, AFFINE, tmp_path / "a_label.nii.gz")
        for gate in gates:
            organ = label[::2, ::2, ::2].astype(np.float32) / 5
            maps = np.stack([organ * (number + 1) / frames for number in range(frames)], axis=-1)
            save(maps, COARSE, tmp_path / f"a_{gate}.nii.gz")
        probe = {"case": "a", "gates": list(gates), "image": "a_image.nii.gz", "label": "a_label.nii.gz"}
        times = [{"epoch": 2 * number, "step": 10 * number, "minutes": 0.5 * number} for number in range(frames)]
        (tmp_path / "frames.json").write_text(json.dumps({"frames": times, "probes": [probe], **index}))
        return tmp_path

    return write


def maps_of(figure):
    return {
        axes.get_title(): np.asarray(axes.images[0].get_array()) for axes in figure.axes if "level" in axes.get_title()
    }


def test_every_frame_shows_the_image_and_each_gate(write_frames):
    (animation,) = read_attention_frames(write_frames(), labels={"background": 0, "liver": 5})
    assert animation.caption.startswith("a:")
    assert [label for label, _ in animation.frames] == [
        "epoch 0, 0.0 min",
        "epoch 2, 0.5 min",
        "epoch 4, 1.0 min",
    ]
    figure = animation.frames[0][1]
    assert list(maps_of(figure)) == ["level2", "level3"]
    assert figure.axes[0].get_title().startswith("axial")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["liver"]


def test_a_map_on_a_grid_of_its_own_lies_on_the_organ(write_frames):
    (animation,) = read_attention_frames(write_frames())
    first, last = (maps_of(figure)["level2"] for _, figure in (animation.frames[0], animation.frames[-1]))
    inside = np.zeros(SHAPE[1::-1], bool)
    # an array in L, P, S: as radiologists look at it, columns run with the first axis and rows with the second
    inside[2:6, 6:10] = True
    assert last[inside].min() > 0.5
    assert last[0].max() == 0
    np.testing.assert_allclose(first, last / 3, atol=1e-6)


def test_a_long_animation_is_thinned_from_its_first_to_its_last_frame(write_frames):
    (animation,) = read_attention_frames(write_frames(frames=50, gates=("level2",)))
    assert len(animation.frames) == MAX_FRAMES
    assert animation.frames[0][0].startswith("epoch 0,")
    assert animation.frames[-1][0].startswith("epoch 98,")


def test_a_single_slice_has_an_animation_as_well(write_frames):
    (animation,) = read_attention_frames(write_frames(frames=1, shape=(12, 10, 1)))
    assert maps_of(animation.frames[0][1])["level2"].max() > 0.9


def test_unknown_fields_of_the_index_are_ignored(write_frames):
    folder = write_frames(more="of it", probes=[])
    assert read_attention_frames(folder) == []


def test_an_animation_without_frames_is_none(write_frames):
    folder = write_frames()
    (folder / "frames.json").write_text('{"frames": [], "probes": []}')
    assert read_attention_frames(folder) == []


def test_a_broken_index_is_one_clear_error(write_frames):
    folder = write_frames()
    (folder / "a_level3.nii.gz").unlink()
    with pytest.raises(AttunetError, match=r"a_level3\.nii\.gz"):
        read_attention_frames(folder)
    save(np.zeros((6, 5, 4, 2), np.float32), COARSE, folder / "a_level3.nii.gz")
    with pytest.raises(DataError, match="2 maps, expected 3"):
        read_attention_frames(folder)
    (folder / "frames.json").write_text('{"frames": 3}')
    with pytest.raises(ConfigError, match=r"frames\.json.*frames"):
        read_attention_frames(folder)


def test_folders_of_earlier_versions_are_read(write_frames):
    folder = write_frames()
    (folder / "frames.json").rename(folder / "film.json")
    assert len(read_attention_frames(folder)) == 1


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a\0b", "x" * 5000])
@pytest.mark.parametrize("field", ["case", "image", "label"])
def test_names_in_the_index_stay_in_its_folder(field, name, write_frames):
    folder = write_frames()
    index = json.loads((folder / "frames.json").read_text())
    index["probes"][0][field] = name
    (folder / "frames.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="named"):
        read_attention_frames(folder)
