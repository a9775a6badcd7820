"""Pictures as sequences: what each shows, padding, and networks of several kinds in one run."""

from unittest import mock

import pytest
import torch
from torch import tensor

from kdrun import experiment
from kdrun.config.schema import ConfigError
from kdrun.data.modalities import MODALITIES
from kdrun.data.sequences import Sequences
from kdrun.data.sequential_modalities import SEQUENTIAL, chain_code, pen_path, spectrogram, strokes
from kdrun.data.stream import AsSequences
from kdrun.loading import load
from kdrun.utils.progress import Progress
from tests.conftest import pictures_of
from tests.toy import rows_of, settings_of


def drawn(*cells, side=8):
    """A picture with these cells (row, column) of ink, stored."""
    picture = torch.zeros(1, side, side, 1, dtype=torch.uint8)
    for row, column in cells:
        picture[0, row, column] = 255
    return picture


CORNER = [(1, 2), (2, 2), (3, 2), (4, 2), (4, 3), (4, 4)]  # down, then to the right


def test_a_pen_goes_along_a_line_from_its_top_and_ends_with_it():
    path, lengths = pen_path(drawn(*CORNER)[..., 0] / 255)
    assert lengths.tolist() == [6]
    assert path[0, :6].tolist() == [8 * row + column for row, column in CORNER]
    assert path[0, 6:].tolist() == [8 * 4 + 4] * 18


def test_moves_places_and_a_lifted_pen():
    seen = strokes(drawn(*CORNER, (7, 7)))
    assert seen.lengths.tolist() == [7]
    frames = seen.values[0, :7]
    assert torch.allclose(frames[:, :2].mean(dim=0), torch.zeros(2), atol=1e-6)  # about the middle of the path
    assert frames[:, 2:4].tolist() == [[0, 0], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [3, 3]]
    assert frames[:, 4].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert frames[:, 5].tolist() == [1] * 7
    assert not seen.values[0, 7:].any()


def test_a_path_does_not_depend_on_where_it_is_drawn():
    moved = [(row + 2, column + 3) for row, column in CORNER]
    assert torch.equal(strokes(drawn(*CORNER)).values, strokes(drawn(*moved)).values)


def test_a_path_in_words():
    text = chain_code(drawn(*CORNER, (7, 7)))
    assert text.values[0, :8].tolist() == [17, 3, 3, 3, 1, 1, 10, 0]  # down is 2 turns of 45 degrees, 10 a lifted one of 1


def test_nothing_drawn_is_a_path_of_one_place():
    for name in ("strokes", "chain_code"):
        seen = SEQUENTIAL[name].look(torch.zeros(2, 8, 8, 1))
        assert seen.lengths.tolist() == [1, 1]
        assert torch.isfinite(seen.values.float()).all()


def test_a_tone_is_heard_where_its_column_is_and_higher_above():
    whole = spectrogram(drawn((1, 2))).values[0], spectrogram(drawn((6, 2))).values[0]
    assert whole[0].shape == (31, 9)
    for seen, cycles in zip(whole, (13, 3), strict=True):  # in a column of two windows
        assert 8 <= int(seen.amax(dim=1).argmax()) <= 10  # column 2 is samples 64 to 96, of 8 a frame; windows have 16
        assert abs(int(seen[9].argmax()) - cycles / 2) <= 0.5


def test_a_film_passes_over_the_picture():
    film = SEQUENTIAL["film"].look(drawn((0, 0), (0, 7))).values[0]
    assert film.shape == (5, 32)
    assert film[:, 0].tolist() == [1, 0, 0, 0, 0]
    assert film[:, 3].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("name", list(SEQUENTIAL))
def test_whatever_is_seen_depends_on_the_sample_alone_is_normalised_and_zero_where_padded(name):
    images = pictures_of(6, 0, side=10, channels=3).inputs
    normalise = AsSequences.measured(images, name)
    seen = normalise(images)
    assert isinstance(seen, Sequences)
    assert not seen.values[~seen.mask].any()
    assert torch.allclose(seen.values[:3].float(), normalise(images.float()[:3] / 255).values.float(), atol=1e-5)
    if SEQUENTIAL[name].vocabulary is None:
        mean = seen.values[seen.mask].mean(dim=0)
        assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-4)
    else:
        assert 0 <= int(seen.values.min()) <= int(seen.values.max()) < SEQUENTIAL[name].vocabulary


def test_large_pictures_are_followed_on_a_coarse_grid():
    seen = strokes((torch.rand(2, 64, 32, 3) * 255).to(torch.uint8))
    assert seen.values.shape == (2, 3 * 14, 6)


def test_the_names_are_of_one_kind_each():
    assert not set(MODALITIES) & set(SEQUENTIAL)


TOY = ("dataset=pair", "recipe=smoke", "recipe.batch_size=16", "recipe.epochs=1", "threads=1")


@pytest.mark.parametrize("words", [
    ("dataset.student_sees=strokes", "teacher=cnn", "teacher.widths=[4]", "student=lstm", "student.width=4"),
    ("dataset.teacher_sees=chain_code", "dataset.student_sees=half_resolution", "teacher=lstm", "teacher.width=4",
     "student=cnn", "student.widths=[4]")])
def test_teacher_and_student_of_several_kinds_from_config_to_rows(words, tmp_path):
    settings = settings_of("method=kd", *TOY, "dataset.train_limit=48", *words, f"outputs={tmp_path}")
    with mock.patch("kdrun.analysis.plots.run_curves.learning_curves"):
        rows = rows_of(experiment.run(settings, Progress(None)))
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"] != rows["teacher"]["parameters"]
    for weights in (*tmp_path.glob("runs/*/student.safetensors"), *tmp_path.glob("store/*/weights.safetensors")):
        loaded = load(weights)
        assert loaded.network(loaded.preprocess(drawn(*CORNER))).logits.shape == (1, 10)


@pytest.mark.parametrize(("words", "wanted"), [
    (("method=kd", "dataset.student_sees=strokes"), "is no network for classification of frames"),
    (("method=at", "dataset.teacher_sees=film", "teacher=lstm", "dataset.student_sees=edges"), "have no places in common"),
    (("method=kd", "dataset/base=scenes", "dataset.student_sees=strokes", "dataset.base.train=24", "dataset.base.held_out=4",
      "dataset.base.test=4"), "strokes is of pictures of one class each")])
def test_what_does_not_fit_is_refused(words, wanted):
    with pytest.raises(ConfigError, match=wanted):
        experiment.Experiment.prepare(settings_of(*TOY, *words), Progress(None))


def test_the_ink_that_is_faint_is_no_stroke():
    ink = tensor([[[1.0, 0.2, 0.0], [0.9, 0.0, 0.0], [0.8, 0.0, 0.3]]])
    path, lengths = pen_path(ink)
    assert path[0, :int(lengths)].tolist() == [0, 3, 6]
