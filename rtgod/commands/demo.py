"""The command `demo`: the main job from end to end, with each part as a process that talks over real sockets."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rtgod.commands.subprocesses import STOP_TIMEOUT_S, CommandProcess, heading, print_figures, read_tsv, step
from rtgod.console import PlainConsole, styled
from rtgod.files import write_whole

console = PlainConsole()


def demo(
    out: Annotated[Path | None, typer.Option(help="Folder for all that is made; default demo-output/DATE.")] = None,
    weights: Annotated[
        str, typer.Option(help="Network weights: random:SEED, default (pretrained; downloaded once), or a file.")
    ] = "random:0",
    seed: Annotated[int, typer.Option(min=0, help="Which simulated subject.")] = 0,
    speed: Annotated[float, typer.Option(min=0.1, help="Pace of the scanner as a multiple of real time.")] = 60.0,
    imagery: Annotated[
        bool, typer.Option("--imagery", help="Decode an imagery run as well, after the test run.")
    ] = False,
    backend: Annotated[str, typer.Option(help="Where to draw: auto, window, offscreen or terminal.")] = "auto",
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures, as one flat object.")] = None,
) -> None:
    """Simulate a subject, calibrate, then serve and show a test run of new categories.

    Takes two to four minutes on two cores. Nothing is downloaded: the network has seeded random weights unless
    --weights says otherwise.
    """
    started_s = time.monotonic()
    folder = out or Path("demo-output") / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    dataset, bundle = folder / "subject", folder / "bundle"
    origin = "seeded random, nothing is downloaded" if weights.startswith("random:") else "as asked"
    line = styled("Everything goes to ", (folder, "bold"), ". Network weights: ", (weights, "bold"), f" ({origin}).")
    console.print(line, soft_wrap=True)

    heading("1. A simulated subject is scanned")
    amount = ("--test-runs", "1", "--imagery-runs", str(int(imagery)), "--other-categories", "100")
    step("simulate", str(dataset), "--seed", str(seed), "--weights", weights, *amount)
    heading("2. A decoder is calibrated on the training runs")
    step("calibrate", str(dataset), "--subject", "01", "--weights", weights, "--out", str(bundle))
    heading("3. A new run is decoded live: categories that the decoder was never trained on")
    runs = sorted((dataset / "sub-01").glob("ses-*Test*/func/*_bold.nii.gz"), key=lambda path: "imagery" in path.name)
    ready = _live(folder, bundle, runs, speed, backend)
    heading("4. What was decoded")
    results = folder / "results"
    step("report", str(ready["journal"]), "--bundle", str(bundle), "--dataset", str(dataset), "--out", str(results))

    figures = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    figures |= _end_to_end(folder, runs)
    figures["wall_s"] = time.monotonic() - started_s
    print_figures("The demo in figures", figures)
    console.print(
        "Identification accuracy is the share of the other candidates ranked below the true one: chance is 0.5. "
        "Chance of the median rank is (n_candidates + 1) / 2."
    )
    pictures = sorted([*folder.glob("*.png"), *results.glob("*.png")])
    console.print(styled("Pictures: " + ", ".join(str(path) for path in pictures)), soft_wrap=True)
    if json_path:
        write_whole(json_path, json.dumps(figures, indent=1) + "\n")


def _live(folder: Path, bundle: Path, runs: list[Path], speed: float, backend: str) -> dict[str, Any]:
    """Serve, display and replay, each in its own process; return what the server wrote to its ready file."""
    server_ready, display_ready = folder / "server.json", folder / "display.ready"
    serve = ["serve", "--supervise", str(bundle), "--ingest", "tcp://127.0.0.1:*", "--publish", "tcp://127.0.0.1:*"]
    serve += ["--journal", str(folder / "journal"), "--ready-file", str(server_ready)]
    with CommandProcess(*serve, lasting=True) as server:
        server.wait_for(server_ready)
        ready: dict[str, Any] = json.loads(server_ready.read_text(encoding="utf-8"))
        display = ["display", "--from", ready["publish"], "--to", ready["ingest"], "--backend", backend]
        display += ["--no-full-screen", "--log", str(folder / "display.tsv")]
        if backend != "terminal":
            display += ["--screenshot", str(folder / "display.png")]
        display += ["--ready-file", str(display_ready), "--stop-after-runs", str(len(runs))]
        with CommandProcess(*display, beside=[server]) as screen:
            screen.wait_for(display_ready)
            for run in runs:
                console.print(styled(f"replaying {run.name} at {speed:g} times the scanner's pace"), soft_wrap=True)
                log = folder / f"{run.name.removesuffix('_bold.nii.gz')}_sent.tsv"
                replay = ["replay", str(run), "--to", ready["ingest"], "--speed", str(speed), "--log", str(log)]
                step(*replay, beside=[server, screen])
            screen.wait_end(STOP_TIMEOUT_S)
    return ready


def _end_to_end(folder: Path, runs: list[Path]) -> dict[str, float | int]:
    """Count the volumes sent and shown, and time each from its leaving the source to its answer on the display."""
    sent = {}
    for run in runs:
        run_id = run.name.removesuffix("_bold.nii.gz")
        for row in read_tsv(folder / f"{run_id}_sent.tsv"):
            sent[run_id, row["index"]] = float(row["sent_utc_s"])
    delays_ms = [
        1e3 * (float(row["flip_utc_s"]) - sent[row["run_id"], row["index"]])
        for row in read_tsv(folder / "display.tsv")
        if (row["run_id"], row["index"]) in sent and row["flip_utc_s"] != "n/a"
    ]
    figures: dict[str, float | int] = {"volumes_sent": len(sent), "volumes_shown": len(delays_ms)}
    if delays_ms:
        p50, p99 = np.percentile(delays_ms, (50, 99))
        figures |= {"sent_to_shown_ms_p50": float(p50), "sent_to_shown_ms_p99": float(p99)}
    return figures
