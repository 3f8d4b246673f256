"""The site's reference of the command `tbc`, which is written from the program."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))

import command_line  # noqa: E402 (it lies beside the site, not in a package)


def test_every_command_stands_on_one_page() -> None:
    assert set(command_line.commands()) == set(command_line.claimed(DOCS))


def test_a_command_is_described_with_usage_examples_and_options() -> None:
    text = command_line.described("tie", *command_line.commands()["tie"])
    assert text.startswith("## tbc tie\n\nTie the convolutions")
    assert "```console\n$ tbc tie [OPTIONS] {NAME|FILE}\n```" in text
    assert "```bash\ntbc tie resnet50 --blocks 2\n" in text
    assert "\n`--where PATTERN`\n: Pattern for the names" in text
    assert "With `--finetune` the\ncommand" in text


def test_no_line_of_code_is_cut() -> None:
    for name, (command, context) in command_line.commands().items():
        fences = command_line.described(name, command, context).split("```")[1::2]
        assert max(len(line) for code in fences for line in code.splitlines()) <= 85


def test_options_in_sentences_are_code_and_stay_what_they_are() -> None:
    assert command_line.as_code("give --set, or `tbc x --all`") == "give `--set`, or `tbc x --all`"
