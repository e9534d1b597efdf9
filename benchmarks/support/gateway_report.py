"""Owns how the results of `benchmarks.gateway` read: best rounds, ratios, tables, goals, the plot. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from benchmarks.support.gateway_systems import BARE, DURABLE, OWN
from benchmarks.support.svg import Bar, Group, Panel

WAITED: Final = 0.05
"""Who stood ready for a larger share of the time without getting the processor was disturbed by others."""
HEADINGS: Final = (
    *("case", "trial", "system", "k/s", "livechat is", "of the ceiling", "spread", "CPU us", "livechat is"),
    *("to the last: p50 ms", "p99", "to the first: p50", "p99", "busy: server", "client", "bytes each"),
)
ONE_BY_ONE: Final = "w=1"
"""The trial in which no two messages can be joined on their way, so that each delivery takes a send."""
CHUNK_HEADINGS: Final = (
    *("chunks", "viewers", "sent", "lost", "p50 ms", "p99", "slow viewers", "got", "lost", "gaps"),
    *("not resumed at a keyframe", "closed", "server busy"),
)


@attrs.frozen
class Goal:
    """So many times as much as a peer at least, in all cases of a kind from a number of members on."""

    system: str
    times: float
    peer: str
    part: str
    trial: str
    members_min: int = 0


GOALS: Final = (
    *(
        Goal(OWN, times, peer, "fan-out", ONE_BY_ONE)
        for peer, times in (("ws", 1.2), ("socket.io", 1.2), ("websockets", 1.4), ("python-socketio", 4.0))
    ),
    Goal(DURABLE, 1.0, "ws", "fan-out", ONE_BY_ONE, 100),
    Goal(OWN, 5.0, "ws", "fan-out", "w=16", 100),
    Goal(OWN, 1.0, "nats", "fan-out", "w=16", 100),
    Goal(OWN, 1.0, "ws", "rooms", ONE_BY_ONE),
    *(Goal(OWN, 4.0, "trio-websocket", "inbound", kind) for kind in ("HEARTBEAT", "TYPING", "MESSAGE_CREATE")),
)


def evaluated(row: dict[str, Any]) -> dict[str, Any]:
    """Add to each system its best round, how far the others were below it, and what livechat is to it."""
    if row["part"] == "chunks":
        return row
    systems = [system | _best(system["rounds"]) for system in row["systems"]]
    own, ceiling = _best_of(systems, OWN), _ceiling(row | {"systems": systems})
    return row | {"systems": [system | _ratios(own, system["best"], ceiling) for system in systems]}


def _best_of(systems: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((system["best"] for system in systems if system["system"] == name), None)


def _ceiling(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what bare sends did, where each delivery takes one."""
    return _best_of(row["systems"], BARE) if row["trial"] == ONE_BY_ONE else None


def _best(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rounds:
        return {"best": None, "spread": None, "limited_by_client": False}
    best = max(rounds, key=lambda result: result["per_s"])
    worst = min(result["per_s"] for result in rounds)
    return {
        "best": best,
        "spread": round(1 - worst / best["per_s"], 3) if best["per_s"] else None,
        # The one that had the longer work to do is the one the other waited for.
        "limited_by_client": best["client_busy"] > best["server_busy"],
    }


def _ratios(
    own: dict[str, Any] | None, best: dict[str, Any] | None, ceiling: dict[str, Any] | None
) -> dict[str, float | None]:
    return {
        "ratio": _rate_by(own, best),
        "cpu_ratio": None if own is None or best is None else _divided(best["server_us"], own["server_us"]),
        "of_ceiling": _rate_by(best, ceiling),
    }


def _rate_by(one: dict[str, Any] | None, other: dict[str, Any] | None) -> float | None:
    return None if one is None or other is None else _divided(one["per_s"], other["per_s"])


def _divided(one: float | None, other: float | None) -> float | None:
    return round(one / other, 2) if one and other else None


def name_of(row: dict[str, Any]) -> str:
    """Return what a case is called."""
    if row["part"] == "inbound":
        return f"requests of {row['rooms']}"
    if row["part"] == "deflate":
        return f"to {row['members']}, deflated"
    return f"to {row['members']}" if row["rooms"] == 1 else f"{row['rooms']} rooms of {row['members']}"


def lines(row: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the lines of the table of one row, one a system."""
    for place, system in enumerate(row["systems"]):
        stated = [name_of(row), row["trial"]] if place == 0 else ["", ""]
        best = system["best"]
        if best is None:
            yield [*stated, system["system"], *["-"] * (len(HEADINGS) - 3)]
            continue
        is_own = system["system"] == OWN
        mark = " !" if system["limited_by_client"] else ""
        yield [
            *(*stated, system["system"], f"{best['per_s'] / 1000:.1f}{mark}"),
            *("" if is_own else _times(system["ratio"]), _share(system["of_ceiling"])),
            f"{system['spread'] or 0:.0%}",
            *(_number(best["server_us"], "2f"), "" if is_own else _times(system["cpu_ratio"])),
            *(_milliseconds(best, name, share) for name in ("last_us", "first_us") for share in ("p50", "p99")),
            *(f"{best['server_busy']:.2f}", f"{best['client_busy']:.2f}", _number(best.get("bytes_each"), "0f")),
        ]


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"x {ratio:.2f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:.{form}}"


def _milliseconds(best: dict[str, Any], name: str, share: str) -> str:
    summary = best.get(name)
    return "-" if summary is None else f"{summary[share] / 1000:.2f}"


def chunk_lines(row: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the lines of the table of media chunks."""
    for system in row["systems"]:
        for result in system["rounds"]:
            fast, slow, latency = result["fast"], result["slow"], result["latency_us"]
            yield [
                *(
                    row["trial"],
                    str(fast["viewers"]),
                    str(result["chunks"] * fast["viewers"]),
                    str(fast["missing"]),
                ),
                *("-" if latency is None else f"{latency[share] / 1000:.2f}" for share in ("p50", "p99")),
                *(str(slow[name]) for name in ("viewers", "received", "missing", "gaps")),
                *(str(slow["gaps_not_ended_by_keyframe"]), str(fast["closed"] + slow["closed"])),
                f"{result['server_busy']:.2f}",
            ]


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each goal that can be looked at, what was reached in each of its cases.

    Of the cases in which even bare sends would miss it, it is told what they would reach.
    """
    looked_at = []
    for goal in GOALS:
        reached, beyond = {}, {}
        for row in rows:
            if (row["part"], row["trial"]) != (goal.part, goal.trial) or row["members"] < goal.members_min:
                continue
            own, peer = _best_of(row["systems"], goal.system), _best_of(row["systems"], goal.peer)
            if own is None or peer is None:
                continue
            reached[name_of(row)] = _rate_by(own, peer)
            at_most = _rate_by(_ceiling(row), peer)
            if at_most is not None and at_most < goal.times:
                beyond[name_of(row)] = at_most
        if reached:
            looked_at.append(attrs.asdict(goal) | {"reached": reached, "beyond": beyond})
    return looked_at


def goal_lines(looked_at: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Say of each goal whether it was reached, and where it lies beyond what bare sends would reach."""
    for goal in looked_at:
        beyond = goal["beyond"]
        ratios = ", ".join(
            f"{_times(ratio)} {case}" + (f" (bare sends: {_times(beyond[case])})" if case in beyond else "")
            for case, ratio in goal["reached"].items()
        )
        missed = [case for case, ratio in goal["reached"].items() if (ratio or 0) < goal["times"]]
        verdict = "reached" if not missed else "beyond " if set(missed) <= set(beyond) else "MISSED "
        yield (
            f"{verdict}  {goal['system']} >= {goal['times']:g} x {goal['peer']}, "
            f"{goal['part']} {goal['trial']}: {ratios}"
        )


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables for a README, a line a case, a column a system; rates in thousands a second."""
    written: list[str] = []
    previous: list[str] = []
    for row in rows:
        if row["part"] == "chunks":
            continue
        names = [system["system"] for system in row["systems"]]
        if names != previous:
            headings = ["", *names, "p50 / p99 to the last, ms"]
            written += ["", _markdown_line(headings), _markdown_line(["---", *["---:"] * (len(headings) - 1)])]
            previous = names
        own = row["systems"][0]["best"]
        known = own is not None and own.get("last_us") is not None
        durations = " / ".join(_milliseconds(own, "last_us", share) for share in ("p50", "p99")) if known else "-"
        cells = [f"{name_of(row)}, {row['trial']}", *(_markdown_cell(system) for system in row["systems"])]
        written.append(_markdown_line([*cells, durations]))
    return "\n".join(written)


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(system: dict[str, Any]) -> str:
    best = system["best"]
    if best is None:
        return "-"
    rate = f"{best['per_s'] / 1000:.0f}"
    if system["system"] == BARE:
        return rate
    return f"**{rate}**" if system["system"] == OWN else f"{rate} ({_times(system['ratio'])})"


def remarks(results: dict[str, Any]) -> list[str]:
    """Return what must be known to read the figures rightly."""
    processors = results["processors"]
    systems = [
        system | {"case": f"{name_of(row)}, {row['trial']}"}
        for row in results["rows"]
        for system in row["systems"]
    ]
    told = []
    if processors["server"] == processors["client"]:
        told.append("! servers and clients shared one processor: these figures say little")
    else:
        told.append(
            f"servers on processor {processors['server'][0]}, clients on {processors['client'][0]}; both do the "
            "kernel's part of loopback too. busy: share of the time that a server had the processor, and that its "
            "client had something to do"
        )
    if any(system["system"] == BARE for system in systems):
        told.append(
            f"{BARE}: one send per delivery and nothing else, the ceiling of a Python loop at {ONE_BY_ONE}, where "
            "nothing can be joined; `beyond`: a goal that is missed only where even this would miss it"
        )
    if any(system.get("limited_by_client") for system in systems):
        told.append("! where marked so, the client was busier than the server: the server can do more than that")
    if any(_was_disturbed(system.get("best")) for system in systems):
        told.append("! other programs held the processors meanwhile: `CPU us` depends on that least")
    told += [
        f"! {system['system']}, {system['case']}: {system['failure']}" for system in systems if system["failure"]
    ]
    return [*told, *(f"{name} was left out: it needs {lack}" for name, lack in results["lacking"].items())]


def _was_disturbed(best: dict[str, Any] | None) -> bool:
    return best is not None and best["client_waited"] > WAITED


def plot(results: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `svg.draw`: a panel for each part and trial."""
    rows = [row for row in results["rows"] if row["part"] != "chunks"]
    series = list(dict.fromkeys(system["system"] for row in rows for system in row["systems"]))
    panels = []
    for part, trial in dict.fromkeys((row["part"], row["trial"]) for row in rows):
        groups = [
            Group(name_of(row), [_bar(row, name) for name in series])
            for row in rows
            if (row["part"], row["trial"]) == (part, trial)
        ]
        unit = "thousand requests a second" if part == "inbound" else "thousand deliveries a second"
        panels.append(Panel(f"{part}, {trial}", unit, groups))
    machine = results["machine"]
    captions = [
        "One core for the server, messages of 200 bytes. x: how many times as much livechat does.",
        f"{machine['cpu_model'] or 'unknown processor'}, {machine['python_implementation']} {machine['python']}, "
        f"livechat {machine['livechat']}, {results['started_at']}",
    ]
    return {"title": "Chat by one core", "series": series, "panels": panels, "captions": captions}


def _bar(row: dict[str, Any], name: str) -> Bar:
    system = next((system for system in row["systems"] if system["system"] == name), None)
    if system is None or system["best"] is None:
        return Bar(None)
    ratio = [] if name == OWN or system["ratio"] is None else [f"x {system['ratio']:.1f}"]
    rate = system["best"]["per_s"] / 1000
    return Bar(rate, [f"{rate:.0f}k", *ratio])
