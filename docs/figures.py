"""Draw the picture of the README and of the site's first page, and a scene to detect digits on."""

from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tbc_models.data import Scenes
from tbc_models.draw import wiring

HERE = Path(__file__).parent


def main() -> None:
    """Write `_static/wiring-light.svg`, `_static/wiring-dark.svg` and `_static/scene.png`."""
    image, _ = Scenes("test", 11, objects=4, occlusion=(0.2, 0.35))[10]
    # Enlarged, so that there is room for labels; detectors scale it back.
    picture = to_pil_image(image).resize((480, 480), Image.Resampling.NEAREST)
    picture.save(HERE / "_static" / "scene.png")
    designs = [{}, {"groups": 2}, {"blocks": 2}, {"groups": 2, "blocks": 2}]
    for theme, style in {"light": "default", "dark": "dark_background"}.items():
        # A fixed salt and no date: drawing again changes nothing.
        with plt.style.context([style, {"svg.hashsalt": "wiring", "font.size": 11}]):
            figure, panels = plt.subplots(1, 4, figsize=(9.6, 4.3), layout="constrained")
            for axes, design in zip(panels, designs, strict=True):
                wiring(8, 4, **design, axes=axes)
            path = HERE / "_static" / f"wiring-{theme}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None})
            plt.close(figure)
            print(f"wrote {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
