"""Owns `livechat admin`: what a running server does, who is on it, and putting somebody out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from livechat.cli.display import (
    Column,
    Document,
    Fact,
    count,
    facts,
    joined,
    make_console,
    moment,
    print_facts,
    print_table,
    size,
    span,
)
from livechat.cli.remote import Remote, find_remote, one_line, remote_options, segment
from livechat.cli.token import Duration
from livechat.error import ConfigError

UNWELL_STATUS: Final = 1
"""The server answers, but its store or its backplane does not work."""
WATCH_S: Final = 2.0

USERS: Final = (
    Column("USER", 9),
    Column("STATUS", 8),
    Column("SESSIONS", 6, right=True),
    Column("CONNECTED", 7, right=True),
    Column("CHANNELS", 5, right=True),
    Column("VOICES", 4, right=True),
)
SESSIONS: Final = (
    Column("SESSION", 9),
    Column("STATE", 8),
    Column("PEER", 7),
    Column("AGE", 6, right=True),
    Column("HEARS", 4, right=True),
    Column("QUEUED", 5, right=True),
    Column("CHUNKS LOST", 2, right=True),
    Column("FOCUS", 3),
)
CHANNELS: Final = (
    Column("CHANNEL", 9),
    Column("NAME", 3),
    Column("MODE", 5),
    Column("MEMBERS", 8, right=True),
    Column("HERE", 7, right=True),
    Column("VOICES", 6, right=True),
    Column("LAST SEQ", 4, right=True),
    Column("OWNER", 2),
    Column("KIND", 1),
)
PEERS: Final = (
    Column("ID", 7, right=True),
    Column("USER", 9),
    Column("CHANNEL", 8),
    Column("ADDRESS", 6),
    Column("IDLE", 5, right=True),
    Column("LOSS UP/DOWN", 5, right=True),
    Column("JITTER UP/DOWN", 3, right=True),
    Column("RTT", 4, right=True),
    Column("RECEIVED", 4, right=True),
    Column("REJECTED", 3, right=True),
    Column("FORWARDED", 2, right=True),
    Column("SSRC", 1, right=True),
    Column("PROFILE", 0),
    Column("WORKER", 0, right=True),
)


def _as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")(command)


@click.group()
def admin() -> None:
    """See what a running server does, and put users out.

    The server is the one of the configuration, or of --server. What proves that one may is LIVECHAT_SECRET, or
    else the secret in the data folder of the server; where only signed tokens are taken, one made with its key.
    """


# --- status -------------------------------------------------------------------------------------------


@admin.command()
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=WATCH_S, show_default=True, metavar="SECONDS")
@_as_json
@remote_options
def status(watch: bool, interval: float, as_json: bool, **where: Any) -> int:
    """Show how the server is; exits with 1 if its store or its backplane does not work."""
    remote, console = find_remote(**where), make_console()
    if watch:
        _watch(remote, console, interval, as_json)
    document = _status(remote)
    if as_json:
        _print_json([document])
    else:
        print_facts(console, _status_facts(document))
    return 0 if _is_well(document) else UNWELL_STATUS


def _watch(remote: Remote, console: Console, interval: float, as_json: bool) -> None:
    """Show the status again and again, also where the server is away for a while."""
    if as_json or not console.is_terminal:
        while True:
            document = _status(remote)
            if as_json:
                _print_json([document])
            else:
                print_facts(console, [*_status_facts(document), ("", "")])
            time.sleep(interval)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            try:
                live.update(facts(_status_facts(_status(remote))), refresh=True)
            except ConfigError as exc:
                live.update(Text(str(exc), "red"), refresh=True)
            time.sleep(interval)


def _status(remote: Remote) -> Document:
    return remote.ask("GET", "/admin/status", expects="node_id")


def _is_well(document: Document) -> bool:
    return bool(document["store"]["works"]) and document["backplane"] == "ok"


def _status_facts(document: Document) -> Iterable[Fact]:
    store, egress, rates = document["store"], document["egress"], document["rates"]
    yield "server", joined((one_line(document["server"]), one_line(document["node_id"])))
    up = f"{span(document['uptime_s'])}, since {moment(document['started_at'])}"
    yield "up", Text(f"{up}, draining", "yellow") if document["draining"] else up
    sessions = f"{count(document['sessions'], 'session')} ({document['sessions_parked']:,} parked)"
    yield "online", joined((count(document["users_online"], "user"), sessions))
    yield "open", count(document["connections"], "connection")
    yield (
        "channels",
        joined((f"{document['channels']:,} in use", count(document["subscriptions"], "subscription"))),
    )
    yield "voices", f"{document['peers']:,}"
    workers = document["media_workers"]
    if workers:
        yield "media workers", _workers_verdict(workers)
    yield "store", _verdict(store["detail"])
    yield (
        "commits",
        f"p50 {store['commit_latency_p50_ms']:g} ms  p99 {store['commit_latency_p99_ms']:g} ms  "
        f"max {store['commit_latency_max_ms']:g} ms",
    )
    yield "waiting", joined((f"{store['queue_depth']:,} for the store", f"{egress['frames']:,} for clients"))
    yield "backplane", _verdict(document["backplane"])
    yield "in", f"{rates['packets_in']:g} packets/s  {size(rates['bytes_in'])}/s"
    yield "out", f"{rates['packets_out']:g} packets/s  {size(rates['bytes_out'])}/s"
    yield "messages", f"{rates['messages']:g}/s"
    yield "errors", Text(f"{rates['errors']:g}/s", "yellow" if rates["errors"] else "default")
    yield "memory", size(document["memory_bytes"])


def _workers_verdict(workers: Sequence[Document]) -> Text:
    running = sum(worker["state"] == "running" for worker in workers)
    restarts = sum(worker["restarts"] for worker in workers)
    text = f"{running} of {len(workers)} running, {count(restarts, 'restart')}"
    return Text(text, "green" if running == len(workers) else "red")


def _verdict(detail: str) -> Text:
    return Text(one_line(detail), "green" if detail == "ok" else "red")


# --- users, channels, peers ---------------------------------------------------------------------------


@admin.command()
@click.argument("user_id", metavar="[USER]", required=False)
@_as_json
@remote_options
def users(user_id: str | None, as_json: bool, **where: Any) -> None:
    """List the users who are here, or show one of them."""
    remote, console = find_remote(**where), make_console()
    if user_id is not None:
        document = remote.ask("GET", f"/admin/users/{segment(user_id)}", expects="user_id")
        if as_json:
            _print_json([document])
        else:
            _print_user(console, document)
        return
    found = remote.pages("/admin/users", "users")
    if as_json:
        _print_json(found)
        return
    fields = ("user_id", "status", "sessions", "connected", "channels", "voices")
    print_table(console, USERS, [[user[name] for name in fields] for user in found], "nobody is here")


def _print_user(console: Console, user: Document) -> None:
    channels = ", ".join(map(one_line, user["channels"]))
    pairs: list[Fact] = [("user", one_line(user["user_id"])), ("status", user["status"])]
    if "last_seen" in user:
        pairs.append(("last seen", moment(user["last_seen"])))
    if "banned_until" in user:
        pairs.append(("banned", Text(f"until {moment(user['banned_until'])}", "red")))
    print_facts(console, [*pairs, ("channels", channels or "none")])
    if user["sessions"]:
        console.print()
        print_table(console, SESSIONS, [_session_row(session) for session in user["sessions"]], "")
    if user["voices"]:
        console.print()
        print_table(console, PEERS, [_peer_row(peer) for peer in user["voices"]], "")


def _session_row(session: Document) -> list[object]:
    state = "connected" if session["connected"] else f"parked {span(session.get('parked_s', 0))}"
    queued = f"{session['egress_frames']:,} ({size(session['egress_bytes'])})" if session["egress_frames"] else "0"
    return [
        session["session"],
        state,
        session.get("peer"),
        span(session["age_s"]),
        session["subscriptions"],
        queued,
        session.get("chunks_dropped"),
        session.get("focus"),
    ]


@admin.command()
@click.argument("channel_id", metavar="[CHANNEL]", required=False)
@_as_json
@remote_options
def channels(channel_id: str | None, as_json: bool, **where: Any) -> None:
    """List all channels, or show one of them."""
    remote, console = find_remote(**where), make_console()
    if channel_id is not None:
        document = remote.ask("GET", f"/admin/channels/{segment(channel_id)}", expects="channel")
        if as_json:
            _print_json([document])
        else:
            _print_channel(console, document)
        return
    found = remote.pages("/admin/channels", "channels")
    if as_json:
        _print_json(found)
        return
    print_table(console, CHANNELS, [_channel_row(channel) for channel in found], "there are no channels")


def _channel_row(channel: Document) -> list[object]:
    return [
        channel["channel_id"],
        channel["channel_name"],
        channel["mode"],
        channel["member_count"],
        channel["members_here"],
        channel["voices"],
        channel["last_seq"],
        channel["owner_id"],
        _kind(channel),
    ]


def _kind(channel: Document) -> str:
    return joined(("private" if channel["private"] else "public", "kept" if channel["durable"] else "passing"))


def _print_channel(console: Console, document: Document) -> None:
    channel, here = document["channel"], document["members_here"]
    print_facts(
        console,
        [
            ("channel", one_line(channel["channel_id"])),
            ("name", one_line(channel["channel_name"])),
            ("kind", joined((channel["mode"], _kind(channel)))),
            ("owner", one_line(channel["owner_id"])),
            ("created", moment(channel["created_at"])),
            ("last seq", f"{channel['last_seq']:,}"),
            ("members", f"{channel['member_count']:,} of at most {channel['capacity']:,}"),
            ("here", joined((count(channel["members_here"], "member"), f"{channel['subscribers']:,} listening"))),
            ("", ", ".join(map(one_line, here)) or "nobody"),
            *(_floor_facts(document["floor"]) if "floor" in document else ()),
        ],
    )
    if document["voices"]:
        console.print()
        print_table(console, PEERS, [_peer_row(peer) for peer in document["voices"]], "")


def _floor_facts(floor: Document) -> Iterable[Fact]:
    times = f"for {span(floor['held_s'])}, {span(floor['left_s'])} left"
    yield "floor", joined((_claim(floor), times))
    if floor["waiting"]:
        yield "waiting", ", ".join(map(_claim, floor["waiting"]))


def _claim(claim: Document) -> str:
    return f"{one_line(claim['user_id'])} ({claim['indicator']}, priority {claim['priority']})"


@admin.command()
@click.argument("peer_id", metavar="[PEER]", required=False, type=int)
@click.option("--channel", help="Only those of this channel.")
@_as_json
@remote_options
def peers(peer_id: int | None, channel: str | None, as_json: bool, **where: Any) -> None:
    """List media peers (voices), or show one of them."""
    remote, console = find_remote(**where), make_console()
    found: Iterable[Document]
    if peer_id is not None:
        found = [remote.ask("GET", f"/admin/peers/{peer_id}", expects="peer_id")]
    else:
        found = remote.pages("/admin/peers", "peers", {"channel_id": channel})
    if as_json:
        _print_json(found)
        return
    print_table(console, PEERS, [_peer_row(peer) for peer in found], "there are no voices")


def _peer_row(peer: Document) -> list[object]:
    return [
        peer["peer_id"],
        peer["user_id"],
        peer["channel_id"],
        peer.get("address"),
        span(peer["idle_s"]) if "idle_s" in peer else None,
        *_quality_cells(peer.get("quality", {})),
        f"{peer['packets_received']:,} ({size(peer['bytes_received'])})",
        peer["packets_rejected"],
        peer["packets_forwarded"],
        f"{peer['ssrc']:#010x}",
        peer["profile"],
        peer.get("worker"),
    ]


def _quality_cells(quality: Document) -> list[object]:
    """Return loss, jitter and round trip of a peer; None where nothing was measured yet."""
    up, down = quality.get("jitter_up_ms"), quality.get("jitter_down_ms")
    loss = (
        "-" if up is None else f"{quality['fraction_lost_up']:.1%}",
        "-" if down is None else f"{quality['fraction_lost_down']:.1%}",
    )
    rtt = quality.get("rtt_ms")
    return [
        " / ".join(loss),
        f"{_milliseconds(up)} / {_milliseconds(down)}",
        None if rtt is None else _milliseconds(rtt),
    ]


def _milliseconds(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f} ms"


# --- putting somebody out -----------------------------------------------------------------------------


@admin.command()
@click.argument("user_id", metavar="USER")
@click.option("--reason", help="Told to the clients of the user.")
@click.option("--ban", type=Duration(), help="Keep the user out for 90s, 15m, 1h, 30d, ...; a restart ends it.")
@_as_json
@remote_options
def kick(user_id: str, reason: str | None, ban: int | None, as_json: bool, **where: Any) -> None:
    """End all sessions of USER; none of them can be resumed."""
    remote = find_remote(**where)
    body = {name: value for name, value in (("reason", reason), ("ban_for_s", ban)) if value is not None}
    done = remote.ask("POST", f"/admin/kick/{segment(user_id)}", body=body, expects="sessions_ended")
    if as_json:
        _print_json([done])
        return
    banned = f", banned until {moment(done['banned_until'])}" if "banned_until" in done else ""
    click.echo(f"kicked {one_line(done['user_id'])}: {count(done['sessions_ended'], 'session')} ended{banned}")


@admin.command("floor-revoke")
@click.argument("channel_id", metavar="CHANNEL")
@_as_json
@remote_options
def floor_revoke(channel_id: str, as_json: bool, **where: Any) -> None:
    """Take the floor of the push-to-talk channel CHANNEL away from who has it; the next who waits has it then."""
    remote = find_remote(**where)
    done = remote.ask("POST", f"/admin/floor-revoke/{segment(channel_id)}", expects="user_id")
    if as_json:
        _print_json([done])
        return
    click.echo(f"floor of {one_line(done['channel_id'])} taken from {one_line(done['user_id'])}")


# --- keys of voices -----------------------------------------------------------------------------------


@admin.command()
@click.argument("channel_id", metavar="CHANNEL")
@click.option("--user", help="Only the voice of this user.")
@_as_json
@remote_options
def rekey(channel_id: str, user: str | None, as_json: bool, **where: Any) -> None:
    """Give the voices in CHANNEL new keys; nothing is lost meanwhile."""
    remote = find_remote(**where)
    body = {} if user is None else {"user_id": user}
    done = remote.ask("POST", f"/admin/rekey/{segment(channel_id)}", body=body, expects="voices")
    if as_json:
        _print_json([done])
        return
    click.echo(f"{one_line(done['channel_id'])}: {count(done['voices'], 'voice')} rekeyed")


def _print_json(documents: Iterable[Document]) -> None:
    for document in documents:
        click.echo(json.dumps(document, ensure_ascii=False))
