"""The printed report of ``vtag bench``."""

from rich.console import Console
from rich.table import Table

from jobs.cli.terminal.wording import count, percent, significant
from jobs.measure.figures import Bench

ADVICE = {
    (
        "cpu",
        "model",
    ): "The model takes most of the time: a GPU, more cores or machines (--address), or a smaller model would help.",
    ("cpu", "decoding"): "Decoding takes most of the time: more cores or machines (--address) would help.",
    ("cuda", "model"): "The model takes most of the time: more GPUs or machines (--address) would help.",
    ("cuda", "decoding"): "Decoding keeps the GPU waiting: more CPU cores for each GPU would help.",
}

FAST_DECODERS = ("pyav-fast", "pyav-sparse-fast")
"""The readers of ``--fast-decode``."""

MIN_FAST_DECODE_GAIN = 1.2
"""Minimum speed-up for which the report suggests ``--fast-decode``. Less is not worth the loss of exactness."""


def print_bench(measured: Bench, console: Console) -> None:
    """Prints the speed of each part and of the pipeline, and what would make the pipeline faster."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("with", overflow="fold")
    table.add_column("windows/s", justify="right")
    table.add_column("", overflow="fold")
    for number, decode in enumerate(measured.decode):
        title = "Decoding" if number == 0 else ""
        how = f"{decode.reader}, {count(decode.cores, 'core')}"
        table.add_row(title, how, significant(decode.windows_per_s), f"{decode.frames_per_s:,.0f} frames/s")
    for number, model in enumerate(measured.model):
        title = "Model" if number == 0 else ""
        how = f"{model.precision}, {count(model.actors, 'actor')}, batch {model.batch_size}"
        table.add_row(title, how, significant(model.windows_per_s), f"{percent(model.peak_share)} of the peak")
    per_s = measured.transport_mb_per_s * 1e6 / measured.window_bytes
    table.add_row("Transport", "object store", significant(per_s), f"{measured.transport_mb_per_s:,.0f} MB/s")
    table.add_row(
        "Pipeline",
        f"{measured.reader}, {measured.precision}",
        significant(measured.pipeline_windows_per_s),
        f"{significant(measured.realtime)}× real time, after {significant(measured.start_s)} s of start-up",
    )
    facts = measured.facts
    rate = f" at {facts.fps:.5g} frames/s" if facts.fps else ""
    console.print(
        f"{measured.model_name} on {measured.device}, {count(measured.cores, 'core')}; {facts.width}×{facts.height} "
        f"{facts.codec}{rate}; a window every {significant(measured.hop_s)} s; "
        f"{measured.gflop_per_window:.1f} GFLOP a window; peak of matrix products: "
        + ", ".join(f"{peak:,.0f} GFLOP/s in {precision}" for precision, peak in measured.gflop_per_s.items()),
        highlight=False,
        markup=False,
    )
    console.print()
    console.print(table, highlight=False)
    console.print()
    together = "together on the same cores" if measured.device == "cpu" else "side by side"
    each = ", ".join(map(percent, measured.efficiencies))
    median = f", the median of {each}" if len(measured.efficiencies) > 1 else ""
    console.print(
        f"[bold]Efficiency {percent(measured.efficiency)}[/bold] of the {significant(measured.ceiling_windows_per_s)} "
        f"windows/s that decoding and the model allow {together}{median}.",
        highlight=False,
    )
    if measured.device == "cuda":
        cores = significant(measured.cores_for_model)
        console.print(
            f"At {facts.width}×{facts.height} the model keeps up with what {cores} cores decode.", highlight=False
        )
    console.print(ADVICE[measured.device, measured.bottleneck], highlight=False)
    fast = max((rate.windows_per_s for rate in measured.decode if rate.reader in FAST_DECODERS), default=0.0)
    gain = fast / measured.decode_windows_per_s
    if measured.bottleneck == "decoding" and gain >= MIN_FAST_DECODE_GAIN:
        console.print(
            f"So would --fast-decode, which decodes {significant(gain)} times as fast, and less exactly.",
            highlight=False,
        )
