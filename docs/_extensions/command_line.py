"""The reference of the command `tbc`, written from the program itself while the site is built.

A page names its commands in a line such as `% commands: models, summary`, which is replaced by
their help. The line `% commands` is replaced by a table of all commands. Every command must stand
on one page.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from tbc_models.cli import app as tbc

LINE = re.compile(r"^% commands: (.+)$", re.M)
TABLE = re.compile(r"^% commands$", re.M)


def commands() -> dict[str, tuple[Any, Any]]:
    """Each command by its name, such as `bench layers`, with its context."""

    def walk(command: Any, context: Any, name: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
        inner = getattr(command, "commands", None)
        if not inner:
            yield name, (command, context)
        for word, one in (inner or {}).items():
            inside = typer.Context(one, info_name=word, parent=context)
            yield from walk(one, inside, f"{name} {word}".strip())

    root = typer.main.get_command(tbc)
    return dict(walk(root, typer.Context(root, info_name="tbc"), ""))


def as_code(text: str) -> str:
    """Mark options in a sentence as code, so that their dashes stay as they are."""
    parts = text.split("`")  # every second part is code already
    parts[::2] = [re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", p) for p in parts[::2]]
    return "`".join(parts)


def summary(command: Any) -> str:
    """The first sentence of a command's help."""
    return as_code(" ".join(command.help.split("\n\n")[0].split()))


def described(name: str, command: Any, context: Any) -> str:
    """One command as a section: what it does, its usage, its examples, its options."""
    usage = " ".join([f"tbc {name}", *command.collect_usage_pieces(context)])
    examples = re.findall(r"^- `(.+)`$", command.epilog or "", re.M)
    lines = [f"## tbc {name}", as_code(command.help), f"```console\n$ {usage}\n```"]
    if examples:
        lines.append("Examples:\n\n```bash\n" + "\n".join(map(wrapped, examples)) + "\n```")
    for kind, title in (("argument", "Arguments"), ("option", "Options")):
        found = [p for p in command.get_params(context) if p.param_type_name == kind]
        found = [p for p in found if p.name != "help"]
        records = [record for one in found if (record := one.get_help_record(context))]
        if records:
            shown = [f"`{short(usage)}`\n: {as_code(text)}" for usage, text in records]
            lines.append(f"**{title}**\n\n" + "\n\n".join(shown))
    return "\n\n".join(lines)


def wrapped(line: str) -> str:
    """A command that fits the column, continued on further lines before an option."""
    words = [word.replace(" ", "\0") for word in re.split(" (?=-)", line)]
    lines = textwrap.wrap(" ".join(words), 80, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ")


def short(usage: str) -> str:
    """`--seed <int range>` as `--seed <int>`: the range follows the description."""
    return usage.replace(" range>", ">")


def claimed(folder: Path) -> dict[str, str]:
    """The page of each command."""
    pages: dict[str, str] = {}
    for page in sorted((folder / "cli").glob("*.md")):
        for line in LINE.findall(page.read_text()):
            pages |= dict.fromkeys(line.split(", "), page.stem)
    return pages


def table(pages: dict[str, str]) -> str:
    """All commands, each with a link to its section and the first sentence of its help."""
    lines = ["| command | what it does |", "|---|---|"]
    for name, (command, _) in commands().items():
        place = f"cli/{pages[name]}.md#tbc-{name.replace(' ', '-')}"
        lines.append(f"| [`tbc {name}`]({place}) | {summary(command)} |")
    return "\n".join(lines)


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the help of the commands that a page names into its source."""
    if page != "cli" and not page.startswith("cli/"):
        return
    known, pages = commands(), claimed(Path(app.srcdir))
    if odd := set(known) ^ set(pages):
        raise ExtensionError(f"commands without a page, or pages without a command: {odd}")
    source[0] = TABLE.sub(lambda _: table(pages), source[0])
    source[0] = LINE.sub(
        lambda line: "\n\n".join(described(name, *known[name]) for name in line[1].split(", ")),
        source[0],
    )


def outdated(_app: Sphinx, env: Any, *_: Any) -> list[str]:
    """These pages depend on the program, not only on their files, and take no time."""
    return [page for page in env.found_docs if page == "cli" or page.startswith("cli/")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the pages before they are parsed."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
