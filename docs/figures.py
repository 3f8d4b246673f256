"""Draw the picture of the README and of the site's first page, and a scene to detect digits on."""

from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image, ImageOps
from skimage import data
from torchvision.transforms.v2.functional import to_pil_image

from tbc_models.data import Scenes
from tbc_models.draw import wiring

HERE = Path(__file__).parent


def main() -> None:
    """Write `_static/wiring*.svg`, `_static/scene.png`, `_static/social.png` and photographs."""
    photographs()
    image, _ = Scenes("test", 11, objects=4, occlusion=(0.2, 0.35))[10]
    # Enlarged, so that there is room for labels; detectors scale it back.
    picture = to_pil_image(image).resize((480, 480), Image.Resampling.NEAREST)
    picture.save(HERE / "_static" / "scene.png")
    designs = {
        "sc": {},
        "gc": {"groups": 2},
        "tbc": {"blocks": 2},
        "tgc": {"groups": 2, "blocks": 2},
    }
    # A fixed salt and no date: drawing again changes nothing. Text stays text: a fifth of the size.
    plt.style.use(HERE.parent / "tutorials" / "matplotlibrc")
    plt.rcParams.update({"svg.hashsalt": "wiring", "svg.fonttype": "none", "font.size": 11})
    for name, design in designs.items():
        figure, axes = plt.subplots(figsize=(2.4, 4.3), layout="constrained")
        wiring(8, 4, **design, axes=axes)
        figure.savefig(HERE / "_static" / f"wiring-{name}.svg", metadata={"Date": None})
        plt.close(figure)
    figure, panels = plt.subplots(1, 4, figsize=(9.6, 4.3), layout="constrained")
    for axes, design in zip(panels, designs.values(), strict=True):
        wiring(8, 4, **design, axes=axes)
    figure.savefig(HERE / "_static" / "wiring.svg", metadata={"Date": None})
    # What a link to the site shows elsewhere: 1200 by 630 pixels, on white.
    figure.set_size_inches(9.6, 5.04)
    figure.suptitle("Tied Block Convolution", fontsize=22, color="0.2")
    figure.savefig(HERE / "_static" / "social.png", dpi=125, transparent=False, facecolor="white")
    plt.close(figure)


def photographs() -> None:
    """Write the explorer's four photographs, grey and side by side."""
    # Left, upper, right and lower edge of a square.
    squares = {
        data.chelsea: (90, 10, 370, 290),
        data.coffee: (130, 10, 520, 400),
        data.astronaut: (90, 0, 350, 260),
        data.rocket: (190, 110, 470, 390),
    }
    row = Image.new("L", (4 * 80, 80))
    for i, (photograph, square) in enumerate(squares.items()):
        grey = Image.fromarray(photograph()).convert("L").crop(square)
        small = grey.resize((80, 80), Image.Resampling.LANCZOS)
        row.paste(ImageOps.autocontrast(small, cutoff=1), (80 * i, 0))
    row.save(HERE / "_static" / "explorer" / "photographs.webp", quality=35, method=6)


if __name__ == "__main__":
    main()
