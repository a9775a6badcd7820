import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdrun.data.data import read as data_of
from kdrun.data.readers import digits, image_folder, torchvision_set
from tests.conftest import settings_of

IN_MEMORY = {"resize": None, "stream": None, "workers": 0, "augment": None, "measured_on": 9}


def picture(path, *, size=(8, 8), mode="L", value=None, seed=0, **options):
    """A picture file; noise, or one value everywhere."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    shape = (size[1], size[0], *channels)
    noise = np.random.default_rng(seed).integers(0, 256, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise if value is None else np.full(shape, value)).astype(np.uint8), mode=None).save(path, **options)


def classes_in(folder, names=("cat", "dog"), each=5, **options):
    """A folder with a sub-folder of pictures for each name."""
    for number, name in enumerate(names):
        for index in range(each):
            picture(folder / name / f"{index}.png", seed=100 * number + index, **options)


def read(folder, **changes):
    return image_folder(**({"root": str(folder), "size": None, "test": 0.2, "memory_gb": 1.0, **IN_MEMORY} | changes))


def refused(folder, **changes) -> str:
    """The one line in which a folder is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the callers compare what it says)
        read(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- digits ----------------------------------------------------------------------------------------------------------

def test_the_digits_are_1797_pictures_of_ten_classes():
    source = digits(test=0.3)
    assert (len(source.train), len(source.test)) == (1258, 539)
    assert source.train.inputs.shape[1:] == (8, 8, 1)
    assert source.train.inputs.dtype == torch.uint8
    assert (int(source.train.inputs.min()), int(source.train.inputs.max())) == (0, 255)
    assert source.classes == tuple("0123456789")
    assert source.picture_problems() == []
    assert torch.bincount(source.test.labels).min() >= 52


def test_the_digits_test_set_is_always_the_same_one():
    assert digits(test=0.3).test.digest == digits(test=0.3).test.digest
    assert len(digits(test=0.1).test) < 200


# --- a folder of pictures --------------------------------------------------------------------------------------------

def test_a_plain_folder_is_split_here(tmp_path):
    classes_in(tmp_path, each=10)
    source = read(tmp_path)
    assert source.classes == ("cat", "dog")
    assert (len(source.train), len(source.test)) == (16, 4)
    assert torch.bincount(source.test.labels).tolist() == [2, 2]
    assert source.picture_problems() == []
    assert read(tmp_path).test.digest == source.test.digest


def test_pixels_are_those_of_the_files(tmp_path):
    for name, value in (("dark", 10), ("light", 240)):
        for index in range(3):
            picture(tmp_path / name / f"{index}.png", value=value)
    source = read(tmp_path)
    for part in (source.train, source.test):
        assert part.inputs.flatten(1).double().mean(1).tolist() == [(10, 240)[label] for label in part.labels]


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_with_train_and_test_is_taken_as_it_is(tmp_path, held_out):
    classes_in(tmp_path / "train", each=4)
    classes_in(tmp_path / held_out, each=3)
    source = read(tmp_path)
    assert source.classes == ("cat", "dog")
    assert (len(source.train), len(source.test)) == (8, 6)
    assert source.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_validation_pictures_of_ones_own_are_what_is_chosen_by(tmp_path):
    for name, each in (("train", 6), ("val", 3), ("test", 2)):
        classes_in(tmp_path / name, each=each)
    data = data_of(settings_of(validation=0.5), image_folder, {"root": str(tmp_path), "size": None, "test": 0.2,
                                                               "memory_gb": 1.0, **IN_MEMORY})
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 4)
    assert data.found == f"{tmp_path}: train/ with 12 pictures; test/ with 4; val/ with 6 to choose by"
    classes_in(tmp_path / "val", names=["cow"], each=1)
    assert refused(tmp_path).endswith("val has classes that train/ has not: cow")


def test_what_was_found_is_told(tmp_path):
    classes_in(tmp_path / "train", each=5)
    assert read(tmp_path).found == f"{tmp_path}/train: 8 pictures to train on, 2 set aside to test on (dataset.test=0.2)"
    classes_in(tmp_path / "val", each=1)
    assert read(tmp_path).found == (f"{tmp_path}: train/ with 10 pictures; val/ with 2, which is the test set; validation is "
                                    "set aside from train/ (dataset.validation)")


def test_validation_pictures_of_another_size(tmp_path):
    classes_in(tmp_path / "train")
    classes_in(tmp_path / "test")
    classes_in(tmp_path / "val", size=(9, 9))
    assert "validation pictures of [9, 9" in read(tmp_path).picture_problems()[0]


def test_classes_may_be_missing_from_the_test_folder_but_not_from_the_training_folder(tmp_path):
    classes_in(tmp_path / "train", each=2)
    classes_in(tmp_path / "test", names=["dog"], each=2)
    assert read(tmp_path).test.labels.tolist() == [1, 1]
    classes_in(tmp_path / "test", names=["cow"], each=2)
    assert refused(tmp_path).endswith("has classes that train/ has not: cow")


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    classes_in(tmp_path, each=3)
    picture(tmp_path / "dog" / "z.png", size=(12, 9))
    assert refused(tmp_path).endswith("z.png is 12x9, the first picture 8x8; set dataset.size to bring all to one size")
    assert read(tmp_path, size=6).train.inputs.shape[1:] == (6, 6, 1)


def test_the_centre_is_kept_when_a_long_picture_is_resized(tmp_path):
    classes_in(tmp_path, each=3)
    strip = np.zeros((8, 24), dtype=np.uint8)
    strip[:, 8:16] = 200
    for index in range(5, 9):
        Image.fromarray(strip).save(tmp_path / "cat" / f"{index}.png")
    source = read(tmp_path, size=8, test=0.0)
    assert source.train.inputs[3:7].unique().tolist() == [200]


def test_grey_stays_grey_and_a_grey_one_among_coloured_ones_becomes_coloured(tmp_path):
    classes_in(tmp_path, each=3)
    grey = read(tmp_path, test=0.0).train.inputs
    assert grey.shape[-1] == 1
    picture(tmp_path / "dog" / "z.png", mode="RGB")
    mixed = read(tmp_path, test=0.0).train.inputs
    assert mixed.shape[-1] == 3
    for channel in range(3):
        assert torch.equal(mixed[:6, ..., channel], grey[..., 0])
    assert not torch.equal(mixed[6, ..., 0], mixed[6, ..., 1])


@pytest.mark.parametrize(("mode", "ending", "channels"), [
    ("RGBA", "png", 3), ("LA", "png", 3), ("RGB", "png", 3), ("RGB", "bmp", 3), ("RGB", "PNG", 3), ("RGB", "ppm", 3),
    ("L", "pgm", 1), ("L", "tif", 1), ("L", "gif", 3), ("RGB", "jpg", 3), ("RGB", "jpeg", 3)])
def test_modes_and_formats(tmp_path, mode, ending, channels):
    for name in "ab":
        for index in range(2):
            picture(tmp_path / name / f"{index}.{ending}", mode=mode, seed=index)
    images = read(tmp_path, test=0.0).train.inputs
    assert images.shape == (4, 8, 8, channels)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_brought_to_eight_and_not_cut_off(tmp_path, ending):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(ramp).save(tmp_path / name / f"0.{ending}")
    images = read(tmp_path, test=0.0).train.inputs[..., 0]
    assert images[0].flatten().tolist() == (ramp // 257).flatten().tolist()


def test_pixels_of_more_bits_are_refused(tmp_path):
    classes_in(tmp_path)
    Image.fromarray(np.random.default_rng(0).random((8, 8), dtype=np.float32)).save(tmp_path / "cat" / "0.tif")
    assert refused(tmp_path).endswith("0.tif: its pixels have more than 16 bits; save it with 8")


def test_files_that_are_no_pictures_are_left_alone(tmp_path):
    classes_in(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "list.csv").write_text("a,b")
    assert len(read(tmp_path, test=0.0).train) == 10


def test_pictures_in_deeper_folders_belong_to_the_class(tmp_path):
    classes_in(tmp_path, each=2)
    picture(tmp_path / "dog" / "puppies" / "p.png")
    assert read(tmp_path, test=0.0).train.labels.tolist() == [0, 0, 1, 1, 1]


def test_the_order_of_the_files_is_that_of_their_names(tmp_path):
    for index in (2, 0, 1):
        for name in ("dog", "cat"):
            picture(tmp_path / name / f"{index}.png", value=index + 10 * (name == "dog"))
    images = read(tmp_path, test=0.0).train.inputs
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]


def test_a_missing_folder(tmp_path):
    assert refused(tmp_path / "nowhere").startswith(f"there is no folder {tmp_path / 'nowhere'}")


def test_a_folder_without_classes(tmp_path):
    picture(tmp_path / "0.png")
    assert refused(tmp_path) == f"{tmp_path} holds no sub-folder; wanted one for each class"


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    assert refused(tmp_path).startswith(f"{tmp_path} holds no picture (.bmp, ")


def test_an_empty_class_is_told_by_its_name(tmp_path):
    classes_in(tmp_path)
    (tmp_path / "emu").mkdir()
    assert read(tmp_path).picture_problems() == ["no training picture of class emu"]


def test_one_class_is_no_classifier(tmp_path):
    classes_in(tmp_path, names=["cat"])
    assert read(tmp_path).picture_problems() == ["1 class of pictures; a classifier needs at least two"]


@pytest.mark.parametrize("content", [
    b"", b"no picture at all", b"\x89PNG\r\n\x1a\n", "cut", "crc", b"P5 1x 8 255\n" + bytes(64), b"P5 99999 99999 255\n",
    b"BM" + bytes(60)])
def test_a_damaged_picture_is_told_by_its_path(tmp_path, content):
    classes_in(tmp_path)
    path = tmp_path / "cat" / "3.png"
    whole = bytearray(path.read_bytes())
    if content == "crc":
        whole[whole.index(b"IDAT") + 8] ^= 255
    path.write_bytes(whole[:len(whole) // 2] if content == "cut" else whole if content == "crc" else content)
    assert refused(tmp_path).startswith(f"cannot read {path}: ")


def test_more_pictures_than_memory(tmp_path):
    classes_in(tmp_path, each=10)  # 20 pictures of 64 bytes
    assert len(read(tmp_path, memory_gb=1280e-9, test=0.0).train) == 20
    told = refused(tmp_path, memory_gb=1279e-9)
    assert told.startswith(f"the pictures of {tmp_path} take more than 1.279e-06 GB in memory; set a smaller dataset.size")


# --- torchvision's sets ----------------------------------------------------------------------------------------------

def idx_files(root, *, name="MNIST", train=20, test=10):
    """A tiny set in MNIST's format; returns the pictures and labels of both parts."""
    raw = root / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    draws, parts = np.random.default_rng(0), []
    for prefix, count in (("train", train), ("t10k", test)):
        images = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
        parts.append((images, labels))
    return parts


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_a_set_in_mnists_format_is_read_back(tmp_path, name):
    wanted = idx_files(tmp_path, name=name)
    source = torchvision_set(reader=name, root=str(tmp_path), download=False, augment=None, workers=0)
    for part, (images, labels) in zip((source.train, source.test), wanted, strict=True):
        assert torch.equal(part.inputs, torch.from_numpy(images)[..., None])
        assert part.labels.tolist() == labels.tolist()
        assert part.labels.dtype == torch.int64
    assert len(source.classes) == 10
    assert source.picture_problems() == []


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"])
def test_a_missing_set_is_told_in_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{name} is not in ") as caught:
        torchvision_set(reader=name, root=str(tmp_path / "nowhere"), download=False, augment=None, workers=0)
    told = str(caught.value)
    assert "\n" not in told
    assert str(tmp_path / "nowhere") in told
    assert "set dataset.root to its folder, or dataset.download=true to fetch it" in told
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 9, b"\xff" * 40, "cut"])
def test_a_damaged_set_is_told_in_one_line(tmp_path, content):
    idx_files(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-9] if content == "cut" else content)
    with pytest.raises(ValueError, match=r"^MNIST is not in .*, or not whole") as caught:
        torchvision_set(reader="MNIST", root=str(tmp_path), download=False, augment=None, workers=0)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (Path(os.environ.get("KDRUN_DATA", "nowhere")) / "cifar-10-batches-py").is_dir(),
                    reason="KDRUN_DATA names no folder with the real CIFAR-10")
def test_cifar10_is_50000_and_10000_coloured_pictures():
    source = torchvision_set(reader="CIFAR10", root=os.environ["KDRUN_DATA"], download=False, augment=None, workers=0)
    assert source.picture_problems() == []
    assert source.train.inputs.shape == (50000, 32, 32, 3)
    assert source.test.inputs.shape == (10000, 32, 32, 3)
    assert torch.bincount(source.train.labels).tolist() == [5000] * 10
    assert source.classes[:3] == ("airplane", "automobile", "bird")
    # the means everyone uses: 0.4914, 0.4822, 0.4465
    means = (source.train.inputs.double().mean((0, 1, 2)) / 255).tolist()
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


def test_a_training_folder_alone_is_split_and_hidden_folders_are_no_classes(tmp_path):
    classes_in(tmp_path / "train", each=10)
    (tmp_path / "train" / ".thumbnails").mkdir()
    source = read(tmp_path, test=0.2)
    assert source.classes == ("cat", "dog")
    assert len(source.train) == 16
    assert len(source.test) == 4


def test_an_ending_does_not_choose_what_opens_a_file(tmp_path):
    """Pillow would hand an EPS to Ghostscript, whatever the file is called."""
    classes_in(tmp_path)
    (tmp_path / "cat/9.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with Image.open(tmp_path / "cat/9.png") as opened:
        assert opened.format == "EPS"  # that is what it is
    assert "cannot identify image file" in refused(tmp_path)


def test_what_is_no_file_is_no_picture(tmp_path):
    classes_in(tmp_path)
    before = len(read(tmp_path).train)
    os.mkfifo(tmp_path / "cat/pipe.png")  # opening it would wait for ever
    (tmp_path / "dog/folder.png").mkdir()
    (tmp_path / "dog/dangling.png").symlink_to("nothing")
    assert len(read(tmp_path).train) == before
