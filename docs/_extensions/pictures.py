"""Store what notebooks drew as WebP: half the weight, or a tenth where it is a photograph."""

from io import BytesIO
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

# Figures are drawn at this many pixels an inch (tutorials/matplotlibrc); a browser counts 96.
DRAWN, SHOWN = 128, 96
LOSSLESS = 40_000  # bytes


def encoded(picture: Image.Image, **options: int) -> bytes:
    """A picture as the bytes of a WebP file."""
    file = BytesIO()
    picture.save(file, "webp", method=4, **options)
    return file.getvalue()


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
                files = [encoded(picture, lossless=True), encoded(picture, quality=80)]
                # Above this size the picture holds a photograph, and loses nothing visible.
                small = files[0] if len(files[0]) < LOSSLESS else min(files, key=len)
                temporary = target.with_suffix(".part")
                temporary.write_bytes(small)
                temporary.replace(target)
        image["uri"] = image["uri"].removesuffix(".png") + ".webp"


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before Sphinx collects the pictures of a page, at priority 500."""
    app.connect("doctree-read", to_webp, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
