"""The command `tbc compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from tbc_models.cli.terminal import (
    errors_in_one_line,
    plain_table,
    progress_bar,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)
from tbc_models.data.specification import parse_specification

if TYPE_CHECKING:
    from tbc_models.comparing.runs import Plan, RunScore

app = typer.Typer()
console = Console()
_ENOUGH = 5  # seeds


@app.command(
    "compare",
    epilog="Examples:\n\n- `tbc compare --json mnist.json --plot mnist.png`\n\n"
    "- `tbc compare --data digits --epochs 10 --jobs 4`\n\n"
    "- `tbc compare --ablation splits --epochs 3`",
)
def compare_networks(
    data: Annotated[
        str, typer.Option(metavar="NAME[:PATH]", help="Data set, as for `tbc train`.")
    ] = "mnist",
    budget: Annotated[
        Literal["parameters", "macs", "both"] | None,
        typer.Option(help="Quantity that is equal in all networks.  [default: both, in turn]"),
    ] = None,
    ablation: Annotated[
        Literal["splits", "mixer"] | None,
        typer.Option(help="Compare TiedResNets instead, as in Table 5 or Table 6."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of times each network is trained, at least 2.")
    ] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 8,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of trainings at a time, each on one thread.")
    ] = 1,
    no_mirror: Annotated[
        bool, typer.Option("--no-mirror", help="Do not mirror training images at random.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the runs in the --json file and add the others.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the results to this file after every run."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot the result to this PNG, SVG or PDF file."),
    ] = None,
) -> None:
    """Compare SC, GC, TBC and TGC at equal parameters and at equal MACs, over several seeds.

    Every network is trained from scratch with the same seeds. Prints means, 95 % intervals and a
    paired test against SC. For MNIST this takes a quarter of an hour on one core.
    """
    if seeds < 2:
        raise typer.BadParameter(
            f"{seeds} gives no interval; use at least 2.", param_hint="--seeds"
        )
    if ablation and budget:
        raise typer.BadParameter(
            "the networks of an ablation differ in cost; omit --budget.", param_hint="--budget"
        )
    if resume and json_file is None:
        raise typer.BadParameter("needs --json with the file to resume.", param_hint="--resume")
    require_writable(json_file, "--json")
    require_picture(plot, "--plot")
    with errors_in_one_line():
        plan = _plan(data, ablation, budget, seeds, epochs, mirror=not no_mirror)
        from tbc_models.comparing.runs import read_runs

        made = read_runs(json_file, plan) if resume and json_file and json_file.exists() else []
        console.print(_networks(plan))
        if seeds < _ENOUGH:
            console.print(f"{seeds} seeds are few: expect wide intervals. Five are usual.")
        report = _run(plan, made, jobs, json_file)
        console.print(_results(report))
        from tbc_models.comparing.plots import compared, conclusions

        for sentence in conclusions(report):
            console.print(sentence, highlight=False)
        console.print("±: 95 % interval over seeds. p: paired t-test, Holm's correction.")
        if plot:
            write_picture(plot, compared(report), "--plot")
            console.print(f"Wrote {plot}", highlight=False, soft_wrap=True)


def _plan(
    data: str,
    ablation: Literal["splits", "mixer"] | None,
    budget: Literal["parameters", "macs", "both"] | None,
    seeds: int,
    epochs: int,
    *,
    mirror: bool,
) -> "Plan":
    """Open the data, and decide what is compared."""
    specification = parse_specification(data)  # before PyTorch is imported
    from dataclasses import replace

    from tbc_models.comparing.runs import Plan
    from tbc_models.data import open_data
    from tbc_models.training.recipes import RECIPES

    recipe = replace(RECIPES["small"], epochs=epochs)
    panels: Any = (ablation,) if ablation else ("parameters", "macs")
    if budget in ("parameters", "macs"):
        panels = (budget,)
    opened = open_data(specification)
    return Plan(replace(opened, mirror=mirror and opened.mirror), panels, seeds, recipe)


def _run(plan: "Plan", made: "list[RunScore]", jobs: int, json_file: Path | None) -> dict[str, Any]:
    """Make the runs that are missing, and write the report after each."""
    from tbc_models.comparing.runs import PACKAGES, report, runs
    from tbc_models.results import machine

    made = list(made)
    with progress_bar() as bar:
        total = len(plan.candidates) * plan.seeds
        task = bar.add_task("Training", total=total, completed=len(made))
        for run in runs(plan, made, jobs):
            made.append(run)
            if json_file:
                write_report(json_file, "--json", report(plan, made), machine(*PACKAGES))
            bar.advance(task)
    return report(plan, made)


def _networks(plan: "Plan") -> Table:
    """Show what the networks cost, before they are trained."""
    first = plan.candidates[0]
    of_trunk = ["widths", "equal"] if "widths" in first.options else []
    numbers = ("parameters", "ratio", "MACs", "ratio")
    shown = plain_table("network", *of_trunk, *numbers, left=1 + len(of_trunk))
    for network in plan.candidates:
        own = []
        if of_trunk:
            equal = "both" if len(network.panels) == 2 else network.panels[0]
            own = [" ".join(map(str, network.options["widths"])), equal]
        shown.add_row(
            network.label,
            *own,
            f"{network.parameters:,}",
            f"{network.parameters / first.parameters:.3f}",
            f"{network.macs:,}",
            f"{network.macs / first.macs:.3f}",
        )
    return shown


def _results(report: dict[str, Any]) -> Table:
    """Show means, and differences from the yardstick, in percentage points."""
    from tbc_models.comparing.plots import TITLES, p_value, plus_minus

    labels = {network["name"]: network["label"] for network in report["networks"]}
    yardstick = report["networks"][0]["label"]
    shown = plain_table("compared at", "network", "top-1 %", f"− {yardstick}", "p", left=2)
    for row in report["statistics"]:
        first = "difference" not in row
        difference = "" if first else plus_minus(row["difference"], "+")
        p = "" if first else p_value(row["p_holm"])
        shown.add_row(
            TITLES[row["panel"]] if first else "",
            labels[row["network"]],
            plus_minus(row),
            difference,
            p,
        )
    return shown
