"""Store what notebooks drew as WebP: half the weight, or a tenth where it is a photograph."""

from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

# Figures are drawn at this many pixels an inch (tutorials/matplotlibrc); a browser counts 96.
DRAWN, SHOWN = 128, 96
LOSSLESS = 60_000  # bytes; above, the picture holds a photograph, and loses nothing visible


def to_webp(app: Sphinx, doctree: nodes.document) -> None:
    """Replace the PNG files of executed cells by WebP files, and state how wide they are shown."""
    drawn = Path(app.outdir).parent / "jupyter_execute"
    for image in doctree.findall(nodes.image):
        source = Path(app.srcdir) / image["uri"].lstrip("/")
        if source.suffix != ".png" or not source.resolve().is_relative_to(drawn.resolve()):
            continue
        target = source.with_suffix(".webp")
        with Image.open(source) as picture:
            image["width"] = f"{round(picture.width * SHOWN / DRAWN)}px"
            if not target.exists():
                # Cells draw again with each build, under a name made from the content.
                temporary = target.with_suffix(".part")
                picture.save(temporary, "webp", lossless=True, method=4)
                if temporary.stat().st_size > LOSSLESS:
                    picture.save(temporary, "webp", quality=85, method=4)
                temporary.replace(target)
        image["uri"] = image["uri"].removesuffix(".png") + ".webp"


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before Sphinx collects the pictures of a page, at priority 500."""
    app.connect("doctree-read", to_webp, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
