"""What each modality shows, and that teacher and student see the same crop of the same sample in two of them."""

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.data.data import read
from kdrun.data.modalities import MODALITIES, lab, misfit, see
from kdrun.data.samples import Source
from kdrun.data.stream import MemoryStream, Normalise
from kdrun.tasks.classification import Classification
from tests.conftest import pictures_of, settings_of, tiny_source
from tests.toy import prepared

CPU = torch.device("cpu")

TASK = Classification((), ())


def colour(red, green, blue):
    return tensor([[[[red, green, blue]]]], dtype=torch.uint8)


def seen(name, images):
    return see(images, name)


class TestModalities:
    def test_a_modality_of_none_is_the_very_picture(self):
        images = colour(1, 2, 3)
        assert see(images, None) is images

    def test_luminance_weighs_the_colours(self):
        assert seen("luminance", colour(255, 0, 0)).item() == pytest.approx(0.299, abs=1e-6)
        assert seen("luminance", colour(255, 255, 255)).item() == pytest.approx(1, abs=1e-6)

    # of CIE Lab under D65, from the definition of sRGB
    @pytest.mark.parametrize(("rgb", "wanted"), [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)),
                                                 ((255, 0, 0), (53.24, 80.09, 67.20)), ((0, 0, 255), (32.30, 79.19, -107.86)),
                                                 ((119, 119, 119), (50.03, 0, 0))])
    def test_lab(self, rgb, wanted):
        assert lab(colour(*rgb)).flatten().tolist() == pytest.approx(wanted, abs=0.03)

    def test_lightness_and_chroma_are_the_parts_of_lab(self):
        images = pictures_of(2, 0, channels=3).inputs
        parts = torch.cat([seen("lightness", images), seen("chroma", images)], dim=-1)
        assert torch.allclose(100 * parts, lab(images))

    def test_edges_of_a_ramp_and_of_nothing(self):
        ramp = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 5, 6, 1) / 10
        steep = seen("edges", ramp)
        assert torch.allclose(steep[:, :, 1:-1], torch.full_like(steep[:, :, 1:-1], 0.8))  # 8 times the step of 0.1
        assert float(seen("edges", torch.full((1, 4, 4, 3), 0.7)).max()) < 1e-6

    def test_coarse_pictures_keep_their_size_and_lose_their_detail(self):
        board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
        for name in ("half_resolution", "quarter_resolution"):
            assert torch.allclose(seen(name, board.float().view(1, 8, 8, 1)), torch.full((1, 8, 8, 1), 0.5))

    def test_projections_are_the_means_of_columns_and_of_rows(self):
        images = tensor([[[0.0, 1.0], [0.5, 0.5]]])[..., None]
        assert torch.equal(seen("projections", images)[0, ..., 0], tensor([[0.25, 0.75], [0.25, 0.75]]))
        assert torch.equal(seen("projections", images)[0, ..., 1], tensor([[0.5, 0.5], [0.5, 0.5]]))

    def test_halves_make_the_whole(self):
        images = pictures_of(1, 0).inputs
        assert torch.equal(torch.cat([seen("left", images), seen("right", images)], dim=2), images)

    @pytest.mark.parametrize("name", list(MODALITIES))
    def test_bytes_and_floats_look_the_same(self, name):
        images = pictures_of(2, 0, channels=3).inputs
        channels = seen(name, images).shape[-1]
        whole, shares = (Normalise([0.1] * channels, [0.5] * channels, name) for _ in range(2))
        assert torch.allclose(whole(images), shares(images.float() / 255), atol=1e-6)

    @pytest.mark.parametrize("name", list(MODALITIES))
    def test_normalised_as_measured(self, name):
        images = pictures_of(8, 0, channels=3).inputs
        x = Normalise.measured(images, name)(images)
        assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(x.shape[1]), atol=1e-4)
        assert torch.allclose(x.var(dim=(0, 2, 3), unbiased=False), torch.ones(x.shape[1]), atol=1e-3)

    def test_what_a_picture_has_not(self):
        assert "3 channels" in misfit("chroma", torch.zeros(1, 8, 8, 1))
        assert "no left half" in misfit("left", torch.zeros(1, 8, 1, 1))
        assert misfit("edges", torch.zeros(1, 8, 8, 2)) is None


class TestStream:
    plain = Normalise([0.0], [1.0])

    def stream(self, **changes):
        return MemoryStream(pictures_of(10, 0), TASK, self.plain, batch_size=8,
                            crop=2, flip=True, seed=3, device=CPU, **changes)

    def test_both_see_the_same_crop_of_the_same_sample(self):
        halves = {"left": Normalise([0.0], [1.0], "left"), "right": Normalise([0.0], [1.0], "right")}
        for batch in self.stream(views=halves).epoch(4, 5):
            assert torch.equal(torch.cat([batch.views["left"], batch.views["right"]], dim=3), batch.x)

    def test_further_views_change_nothing_else(self):
        alone, paired = (list(stream.epoch(1, 5)) for stream in
                         (self.stream(), self.stream(views={"teacher": self.plain})))
        assert all(torch.equal(one.x, other.x) and torch.equal(one.y, other.y)
                   for one, other in zip(alone, paired, strict=True))

    def test_unpaired_is_the_same_samples_in_another_order(self):
        for batch in self.stream(views={"teacher": self.plain}, paired=False).epoch(0, 1):
            shown = batch.views["teacher"]
            assert not torch.equal(shown, batch.x)
            assert sorted(shown.flatten(1).sum(1).tolist()) == pytest.approx(sorted(batch.x.flatten(1).sum(1).tolist()))

    def test_an_epoch_goes_on_from_any_step(self):
        stream = self.stream(views={"teacher": self.plain}, paired=False)
        whole, rest = list(stream.epoch(2, 3)), list(stream.epoch(2, 3, first=2))
        assert [batch.step for batch in rest] == [2, 3, 4]
        assert all(torch.equal(one.views["teacher"], other.views["teacher"])
                   for one, other in zip(whole[2:], rest, strict=True))


class TestData:
    def source(self, **changes):
        source = tiny_source()
        return Source(source.train, source.test, source.classes, "left", {"teacher": None}, **changes)

    def test_each_sees_its_own_shape_and_statistics(self):
        data, plain = read(settings_of(), self.source, {}), read(settings_of(), tiny_source, {})
        teacher = data.seen("teacher")
        assert (data.shape, teacher.shape) == ((1, 8, 4), (1, 8, 8))
        assert data.seen("student").digest == data.digest != teacher.digest
        assert not data.seen("student").views
        assert teacher.digest == plain.digest  # so a teacher of whole pictures is trained once for both
        assert data.settings.name == "tiny_left"
        assert teacher.settings.name == "tiny"

    def test_given_statistics_are_refused(self):
        with pytest.raises(ValueError, match="measured for each modality"):
            read(settings_of(mean=[0.5]), self.source, {})

    def test_a_modality_that_is_not_there_is_refused(self):
        source = tiny_source()
        coloured = Source(source.train, source.test, source.classes, "chroma", {"teacher": None})
        with pytest.raises(ValueError, match="chroma is of pictures with 3 channels"):
            read(settings_of(), lambda: coloured, {})


class TestPair:
    def test_any_data_set_can_be_the_base(self):
        toy = prepared(("kd", "dataset=pair", "dataset.student_sees=edges", "dataset.base.test=0.4"))
        assert toy.data.shape == toy.data.views["teacher"].shape
        assert toy.settings.values["dataset"]["name"] == "digits_picture_edges"

    @pytest.mark.parametrize(("words", "wanted"), [
        (("kd", "dataset=pair", "dataset/base=pair"), "a pair itself"),
        (("kd", "dataset=pair", "dataset.student_sees=luminance"), "3 channels"),
        (("kd", "dataset=pair", "dataset.student_sees=sound"), "dataset.student_sees: got 'sound', wanted one of"),
        (("kd", "dataset=pair", "+dataset.base.teste=1"), "did you mean 'test'"),
        (("kd", "dataset=pair", "dataset.paired=false", "scheme=online"), "labels")])
    def test_what_cannot_be_is_refused(self, words, wanted):
        with pytest.raises(ConfigError, match=wanted):
            prepared(words)
