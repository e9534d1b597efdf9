"""Owns how the results of `benchmarks.relay` read: ratios, lines of the table, remarks, the plot. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.support.figures import PERCENTILES
from benchmarks.support.media_start import OWN
from benchmarks.support.svg import Bar, Group, Panel

BUSY: Final = 0.85
"""A generator with so little time to spare may have been the limit itself."""
DISTURBED_SHARE: Final = 0.2

HEADINGS: Final = (
    *("profile", "bytes", "fan-out", "system", "k legs/s", "livechat is", "us CPU/leg", "cores"),
    *("at half: p50 us", "p99", "p99.9", "generator: busy", "late p99 us"),
)

Pauses = dict[str, dict[str, float]]


def pauses_between(before: Pauses, after: Pauses) -> Pauses:
    """Return the collector's pauses of a while, by generation."""
    return {
        generation: {
            "count": values["count"] - before[generation]["count"],
            "sum_s": round(values["sum_s"] - before[generation]["sum_s"], 6),
        }
        for generation, values in after.items()
    }


def with_ratios(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each system how many times its rate livechat reaches; None where either is not known."""
    own = next((legs_per_s(result) for result in results if result["system"] == OWN), None)
    return [result | {"ratio": _ratio(own, legs_per_s(result))} for result in results]


def _ratio(own: float | None, other: float | None) -> float | None:
    return round(own / other, 2) if own and other else None


def legs_per_s(result: dict[str, Any]) -> float | None:
    """Return a system's saturation, in packets out a second."""
    return None if result["saturation"] is None else result["saturation"]["legs_per_s"]


def lines(row: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the lines of the table of one scenario, one a system."""
    for place, result in enumerate(row["systems"]):
        stated = [row["profile"], str(row["payload_bytes"]), str(row["fan_out"])] if place == 0 else [""] * 3
        saturation, half = result["saturation"], result["half"]
        if saturation is None:
            yield [*stated, result["system"], *["-"] * (len(HEADINGS) - 4)]
            continue
        ratio = "" if result["system"] == OWN or result["ratio"] is None else f"x {result['ratio']:.2f}"
        held = [f"{saturation['legs_per_s'] / 1000:.1f}", ratio, f"{saturation['cpu_us_per_leg']:.2f}"]
        cells = ["-"] * 3 if half is None else [f"{half['latency_us'][name]:.0f}" for name in PERCENTILES]
        generator = [f"{saturation['generator_busy']:.2f}", f"{saturation['send_lateness_p99_us']:.0f}"]
        yield [*stated, result["system"], *held, f"{saturation['relay_cores']:.2f}", *cells, *generator]


def markdown(results: dict[str, Any]) -> str:
    """Return the table for a README: a line a scenario; rates in thousand packets out a second."""
    names = [result["system"] for result in results["scenarios"][0]["systems"]]
    headings = ["profile", "bytes", "fan-out", *names, "us CPU/leg", "p50 / p99 at half, ms"]
    written = [_markdown_line(headings), _markdown_line(["---", *["---:"] * (len(headings) - 1)])]
    for row in results["scenarios"]:
        stated = [row["profile"], str(row["payload_bytes"]), str(row["fan_out"])]
        first, *_ = row["systems"]
        cells = [*stated, *(_markdown_cell(result) for result in row["systems"])]
        saturation, half = first["saturation"], first["half"]
        cells.append("-" if saturation is None else f"{saturation['cpu_us_per_leg']:.2f}")
        cells.append(
            "-" if half is None else " / ".join(f"{half['latency_us'][p] / 1000:.2f}" for p in ("p50", "p99"))
        )
        written.append(_markdown_line(cells))
    return "\n".join(written)


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(result: dict[str, Any]) -> str:
    legs = legs_per_s(result)
    if legs is None:
        return "-"
    is_own = result["system"] == OWN or result["ratio"] is None
    return f"**{legs / 1000:.0f}**" if is_own else f"{legs / 1000:.0f} (x {result['ratio']:.1f})"


def beside_lines(beside: dict[str, Any]) -> list[str]:
    """Say what voice adds to chat."""
    legs = legs_per_s(beside["relay"])
    if legs is None or beside["p99_added_ms"] is None:
        return [
            f"! what voice does to chat (store: {beside['store']}) is not known: the relay held no rate, or chat "
            "or its client was late"
        ]
    return [
        f"chat ({beside['chat_rate_hz']:g}/s to {beside['chat_fan_out']}, store: {beside['store']}), 99th "
        "percentile of the quietest round: "
        f"{beside['p99_without_ms']:.2f} ms without voice, {beside['p99_with_ms']:.2f} ms beside "
        f"{legs / 1000:.0f}k legs/s: {beside['p99_added_ms']:+.2f} ms (goal: at most {beside['goal_ms']:g})"
    ]


def remarks(results: dict[str, Any]) -> list[str]:
    """Return what must be known to read the figures rightly."""
    processors = results["processors"]
    systems = [result for row in results["scenarios"] for result in row["systems"]]
    systems += [row["relay"] for row in results["beside_gateway"]]
    trials = [trial for result in systems for trial in result["trials"]]
    told = []
    if processors["relay"] == processors["generator"]:
        told.append("! relay and generator shared one processor: these figures say little")
    else:
        told.append(
            f"relays on processor {processors['relay'][0]}, generator on {processors['generator'][0]}; of "
            f"{len(trials)} trials the generator's sockets lost packets in "
            f"{sum('drain' in trial['drops'] for trial in trials)}, and it was late in "
            f"{sum(trial['failure'] == 'generator' for trial in trials)} (these do not count as held)"
        )
    told += _collected(results["scenarios"])
    told += _warnings(systems, trials)
    told += [f"{name} was left out: it needs {package}" for name, package in results["lacking"].items()]
    return told


def _collected(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Say what the garbage collector took of livechat's time."""
    pauses = [pause for row in rows for pause in row["gc_pauses"].values()]
    if pauses:
        count, sum_s = (sum(pause[what] for pause in pauses) for what in ("count", "sum_s"))
        yield f"livechat's garbage collector made {count:.0f} pauses, {sum_s * 1000:.1f} ms in all"


def _warnings(systems: Sequence[dict[str, Any]], trials: Sequence[dict[str, Any]]) -> Iterator[str]:
    if any(
        result["saturation"] is not None and result["saturation"]["generator_busy"] > BUSY for result in systems
    ):
        yield "! the generator had little time to spare: some relays may do more than it could ask of them"
    disturbed = sum(trial["disturbed"] for trial in trials)
    if disturbed > DISTURBED_SHARE * len(trials):
        yield f"! other programs held the processors in {disturbed} of {len(trials)} trials, which made them worse"
    if any(result["half"] is not None and result["half"]["disturbed"] for result in systems):
        yield "! other programs were in the way while latency was measured: its high percentiles are theirs too"
    if any(result["half"] is not None and result["half"]["lost"] for result in systems):
        yield "! packets were lost at half of the saturation rate; see drops in the JSON file"
    for result in systems:
        if result["saturation"] is None:
            yield f"! {result['system']}: no rate held; see trials in the JSON file"


def plot(results: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `svg.draw`: a panel for each profile and size."""
    rows = results["scenarios"]
    series = [result["system"] for result in rows[0]["systems"]]
    panels = []
    for profile, payload_bytes in dict.fromkeys((row["profile"], row["payload_bytes"]) for row in rows):
        groups = [
            Group(f"fan-out {row['fan_out']}", [_bar(result) for result in row["systems"]])
            for row in rows
            if (row["profile"], row["payload_bytes"]) == (profile, payload_bytes)
        ]
        panels.append(
            Panel(f"{profile}, {payload_bytes} bytes of payload", "thousand packets out a second", groups)
        )
    machine = results["machine"]
    captions = [
        "One core, every receiver with its own key, no loss. x: how many times as much livechat relays.",
        f"{machine['cpu_model'] or 'unknown processor'}, {machine['python_implementation']} {machine['python']}, "
        f"livechat {machine['livechat']}, {results['started_at']}",
    ]
    return {
        "title": "Voice relayed by one core",
        "series": series,
        "panels": panels,
        "captions": captions,
    }


def _bar(result: dict[str, Any]) -> Bar:
    legs = legs_per_s(result)
    if legs is None:
        return Bar(None)
    ratio = [] if result["system"] == OWN or result["ratio"] is None else [f"x {result['ratio']:.1f}"]
    return Bar(legs / 1000, [f"{legs / 1000:.0f}k", *ratio])
