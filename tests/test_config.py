from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from livechat.config import (
    MAY_BE_ZERO,
    Config,
    StoreSettings,
    load_config,
)
from livechat.error import ConfigError
from livechat.gateway.rates import RateLimits
from livechat.gateway.settings import GatewaySettings
from livechat.handlers.limits import ChatLimits
from livechat.hub.settings import ChunkSettings, FloorSettings
from livechat.jobs.settings import JobSettings
from livechat.limits.settings import AddressLimits
from livechat.media.settings import MediaSettings
from livechat.tokens.settings import AuthSettings
from tests.support.terminal import assert_fit_for_a_terminal


@pytest.fixture(autouse=True)
def _environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LIVECHAT_")]:
        monkeypatch.delenv(name)


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "livechat.toml"
    file.write_text(text)
    return file


# --- where settings come from ------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold_and_are_valid() -> None:
    config = load_config()
    assert attrs.evolve(config, data_dir=Config().data_dir) == Config()
    config.check()


def test_the_environment_beats_the_file_and_the_flags_beat_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(
        tmp_path,
        """
        [livechat]
        host = "file"
        port = 1
        udp_port = 1
        [livechat.gateway]
        drain_ms = 1
        identify_timeout_ms = 1
        """,
    )
    monkeypatch.setenv("LIVECHAT_PORT", "2")
    monkeypatch.setenv("LIVECHAT_UDP_PORT", "2")
    monkeypatch.setenv("LIVECHAT_GATEWAY_DRAIN_MS", "2")
    config = load_config(file, {"udp_port": 3, "host": None})
    assert (config.host, config.port, config.udp_port) == ("file", 2, 3)
    assert (config.gateway.identify_timeout_ms, config.gateway.drain_ms) == (1, 2)
    assert config.gateway.heartbeat_interval_ms == GatewaySettings().heartbeat_interval_ms


def test_every_kind_of_setting_is_read_from_the_file(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        """
        [livechat]
        data_dir = "here"
        tls_cert = "c.pem"
        tls_key = "k.pem"
        log_level = "warning"
        [livechat.gateway]
        allowed_origins = ["https://a.example", "http://b.example:3000"]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [livechat.chat]
        words_file = "words.txt"
        words_action = "mask"
        [livechat.media]
        keys_in_clear = true
        """,
    )
    config = load_config(file)
    # Paths in a file are meant from where the file is.
    paths = (tmp_path / "here", tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "words.txt")
    assert (config.data_dir, config.tls_cert, config.tls_key, config.chat.words_file) == paths
    assert config.chat.words_action == "mask"
    assert config.log_level == "warning"
    assert config.gateway.allowed_origins == ("https://a.example", "http://b.example:3000")
    assert config.gateway.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.media.keys_in_clear is True


def test_a_list_is_read_from_the_environment_by_its_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVECHAT_GATEWAY_ALLOWED_ORIGINS", "https://a.example,http://b.example:3000")
    monkeypatch.setenv("LIVECHAT_GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8,2001:db8::/32")
    config = load_config()
    assert config.gateway.allowed_origins == ("https://a.example", "http://b.example:3000")
    assert config.gateway.trusted_proxies == ("10.0.0.0/8", "2001:db8::/32")
    config.check()


def test_rates_are_read_from_the_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, "[livechat.rates]\nmessages_per_s = 0\nread_burst = 7")
    monkeypatch.setenv("LIVECHAT_RATES_READ_BURST", "8")
    monkeypatch.setenv("LIVECHAT_RATES_OTHERS_PER_S", "9")
    config = load_config(file)
    config.check()
    assert config.rates == RateLimits(messages_per_s=0, read_burst=8, others_per_s=9)


def test_the_secret_is_read_from_the_environment_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVECHAT_SECRET", "correct horse battery")
    config = load_config()
    assert config.secret == "correct horse battery"
    assert "horse" not in repr(config)
    assert "horse" not in str(config)
    assert "horse" not in f"{config!r:>1}"


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[livechat]\nport = ",
        "[livechat]\nprot = 1",
        "[livechat.gateway]\ndrain = 1",
        "[livechat]\nport = 'x'",
        "[livechat]\nport = [1]",
        "[livechat]\nlog_level = 'loud'",
        "[livechat]\ngateway = 5",
        "[livechat.media]\nkeys_in_clear = 'maybe'",
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(toml(tmp_path, text))
    assert_fit_for_a_terminal(caught)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: no such file") as caught:
        load_config(tmp_path / "missing.toml")
    assert_fit_for_a_terminal(caught)
    with pytest.raises(ConfigError, match=r"is a directory"):
        load_config(tmp_path)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / "livechat.conf"
    file.write_text("[livechat]\nport = 5")
    assert load_config(file).port == 5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "x", "a whole number, got 'x'"),
        ("PORT", "1.5", "a whole number, got '1.5'"),
        ("PORT", "", "a whole number, got ''"),
        ("PORT", "1\x1b[2J\n2", r"a whole number, got '1\x1b[2J\n2'"),
        ("PORT", "9" * 5000, f"a whole number, got '{'9' * 59}…"),
        ("LOG_FORMAT", "xml", "one of console, json, got 'xml'"),
        ("CHAT_WORDS_ACTION", "burn", "one of reject, mask, got 'burn'"),
        ("GATEWAY_DRAIN_MS", "", "a whole number, got ''"),
        ("MEDIA_KEYS_IN_CLEAR", "2", "true or false, got '2'"),
        ("STORE_SYNCHRONOUS", "FULL", "one of full, normal, got 'FULL'"),
    ],
)
def test_an_environment_variable_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(f"LIVECHAT_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert str(caught.value) == f"LIVECHAT_{name}: expected {expected}"
    assert_fit_for_a_terminal(caught)


def test_a_refused_file_does_not_show_the_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(toml(tmp_path, "[livechat]\nsecret = ['correct', 'horse']\nport = 'x'"))
    assert "horse" not in str(caught.value)


# --- what cannot work --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"port": -1}, "port: expected 0 to 65535, got -1"),
        ({"port": 65536}, "port: expected 0 to 65535, got 65536"),
        ({"udp_port": 70_000}, "udp_port: expected 0 to 65535, got 70000"),
        ({"host": ""}, "host: expected a name or an IP address, got nothing"),
        ({"tls_cert": Path("c.pem")}, "tls_cert and tls_key: expected both or neither"),
        ({"tls_key": Path("k.pem")}, "tls_cert and tls_key: expected both or neither"),
        ({"chat": ChatLimits(words_file=Path("a\0b"))}, "configuration: expected text in UTF-8 without NUL"),
        ({"udp_host": "chat.example"}, "udp_host: expected an IP address, got 'chat.example'"),
        ({"udp_host": ""}, "udp_host: expected an IP address, got ''"),
        ({"secret": "x", "secret_file": Path("s")}, "secret and secret_file: expected one of them, got both"),
        ({"secret_file": Path("a\0b")}, "configuration: expected text in UTF-8 without NUL"),
        ({"secret": ""}, "secret: expected some text, got nothing"),
        ({"media": MediaSettings(workers=65)}, "media.workers: expected at most 64, got 65"),
        (
            {"udp_port": 65535, "media": MediaSettings(workers=2)},
            "media.workers: 2 ports from udp_port 65535 on go beyond 65535",
        ),
        ({"node_id": ""}, "node_id: expected 1 to 64 letters, digits or _ . -, got ''"),
        ({"node_id": "a b"}, "node_id: expected 1 to 64 letters, digits or _ . -, got 'a b'"),
        ({"node_id": "x" * 65}, "node_id: expected 1 to 64 letters"),
        ({"node_id": "a\n"}, r"node_id: expected 1 to 64 letters, digits or _ . -, got 'a\n'"),
        (
            {"gateway": GatewaySettings(trusted_proxies=("10.0.0.1", "proxy.example"))},
            "gateway.trusted_proxies: expected IP addresses or networks, got 'proxy.example'",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        attrs.evolve(Config(), **change).check()
    assert str(caught.value).startswith(reason)
    assert_fit_for_a_terminal(caught)


GROUPS: dict[str, type[Any]] = {
    "auth": AuthSettings,
    "gateway": GatewaySettings,
    "rates": RateLimits,
    "addresses": AddressLimits,
    "chat": ChatLimits,
    "media": MediaSettings,
    "floor": FloorSettings,
    "chunks": ChunkSettings,
    "jobs": JobSettings,
    "store": StoreSettings,
}
NUMBERS = [
    (group, field.name)
    for group, cls in GROUPS.items()
    for field in attrs.fields(cls)
    if type(field.default) is int or field.type == "int | None"
]

LEAST_BY_OTHERS = {
    *[("gateway", f"{name}_bytes") for name in ("frame", "egress", "chunk")],
    *[("gateway", "resume_window_ms"), ("chunks", "kept_bytes"), ("rates", "chunk_bytes_burst")],
}
"""What must be at least as much as another setting."""


def test_the_names_of_what_may_be_zero_are_names_of_settings() -> None:
    assert {name for _, name in NUMBERS} >= MAY_BE_ZERO


@pytest.mark.parametrize(("group", "name"), NUMBERS)
def test_every_number_has_a_least_value(group: str, name: str) -> None:
    least = 0 if name in MAY_BE_ZERO else 1
    if (group, name) not in LEAST_BY_OTHERS:
        attrs.evolve(Config(), **{group: GROUPS[group](**{name: least})}).check()
    with pytest.raises(ConfigError) as caught:
        attrs.evolve(Config(), **{group: GROUPS[group](**{name: least - 1})}).check()
    assert str(caught.value) == f"{group}.{name}: expected at least {least}, got {least - 1}"


def test_a_burst_of_bytes_must_hold_a_chunk() -> None:
    rates = RateLimits(chunk_bytes_burst=9)
    with pytest.raises(ConfigError, match=r"expected at least chunks.data_bytes, 10, got 9"):
        Config(rates=rates, chunks=ChunkSettings(data_bytes=10)).check()
    Config(rates=attrs.evolve(rates, chunk_bytes_per_s=0), chunks=ChunkSettings(data_bytes=10)).check()


def test_the_url_of_the_store_is_read_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, '[livechat.store]\nurl = "memory:"\nsynchronous = "normal"\ntimeout_ms = 7')
    config = load_config(file)
    assert (config.store.url, config.store.synchronous) == ("memory:", "normal")
    monkeypatch.setenv("LIVECHAT_STORE_URL", "sqlite:///from-environment.db")
    assert load_config(file).store.url == "sqlite:///from-environment.db"
    config = load_config(file, {"store.url": "postgresql://h/d", "port": 5})
    assert (config.store.url, config.store.timeout_ms, config.port) == ("postgresql://h/d", 7, 5)
    assert load_config(file, {"store.url": None}).store.url == "sqlite:///from-environment.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:swordfish@host/database",
        "postgresql://user:sword@fish@host/database",
        "postgresql://host/database?user=me&password=swordfish",
        "postgresql://:swordfish@/database?host=/run",
    ],
)
def test_the_password_in_the_url_of_the_store_is_masked(url: str) -> None:
    config = Config(store=StoreSettings(url=url))
    config.check()
    for text in (repr(config), str(config), f"{config.store!r:>1}"):
        assert "sword" not in text
        assert "fish" not in text
        assert "postgresql://***" in text


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("", "something else"),
        ("mysql://u:t0psecret@h/d", "mysql:…"),
        ("sqlite://livechat.db", "sqlite:…"),
        ("sqlite:///", "sqlite:…"),
        ("memory://", "memory:…"),
        ("livechat.db", "something else"),
        ("u:t0psecret@h", "u:…"),
        ("host=h password=t0psecret", "something else"),
    ],
)
def test_a_store_that_is_nowhere_is_refused_by_name_and_without_its_password(url: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(store=StoreSettings(url=url)).check()
    expected = f"store.url: expected sqlite:///path, postgresql://… or memory:, got {got}"
    assert str(caught.value) == expected
    assert_fit_for_a_terminal(caught)


@pytest.mark.parametrize(
    "change",
    [
        {"port": 0, "udp_port": 65535},
        {"udp_port": 65534, "media": MediaSettings(workers=2)},
        {"store": StoreSettings(url="sqlite:///livechat.db")},
        {"store": StoreSettings(url="sqlite:////var/lib/livechat/livechat.db", synchronous="normal")},
        {"store": StoreSettings(url="postgres://me@db.example/livechat?sslmode=verify-full")},
        {"store": StoreSettings(url="memory:")},
        {"host": "::"},
        {"udp_host": "0.0.0.0"},
        {"udp_host": "::", "secret_file": Path("secret")},
        {"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")},
        {"node_id": "node-1.example_A"},
        {"gateway": GatewaySettings(trusted_proxies=("10.0.0.1/8", "2001:db8::/32", "::1"))},
    ],
)
def test_what_can_work_is_let_through(change: dict[str, Any]) -> None:
    attrs.evolve(Config(), **change).check()


# --- what the loader would take in silence -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[livchat]\nport = 3", "livchat: there is no such setting"),
        ("port = 3\n[livechat]\nudp_port = 4", "got 'port' beside it"),
        ("livechat = 3", "expected a section [livechat]"),
        ("[livechat]\nporf = 3", "porf: there is no such setting"),
        ("[livechat]\ngateway = 5", "expected a section for gateway"),
        (
            "[livechat.gateway]\nheartbeat_interval_ms = true",
            "gateway.heartbeat_interval_ms: expected a whole number",
        ),
        (
            "[livechat.gateway]\nheartbeat_interval_ms = 3.5",
            "gateway.heartbeat_interval_ms: expected a whole number",
        ),
        ('[livechat.gateway]\ntrusted_proxies = "10.0.0.0/8"', "gateway.trusted_proxies: expected a list of text"),
        ("[livechat.gateway]\nallowed_origins = [5]", "gateway.allowed_origins: expected a list of text"),
        ("[livechat]\nhost = 3", "host: expected text, got int"),
        ('[livechat]\nsecret = ["t0psecret"]', "secret: expected text, got list"),
        ('[livechat]\nlog_level = "loud"', "log_level: expected one of debug, info, warning, error, got 'loud'"),
        ('[livechat.chat]\nwords_action = "burn"', "chat.words_action: expected one of reject, mask, got 'burn'"),
        ("[livechat]\nport = 'x'", "port: expected a whole number, got 'x'"),
        ("[livechat]\nport = true", "port: expected a whole number, got true"),
        ("[livechat.media]\nkeys_in_clear = 'maybe'", "media.keys_in_clear: expected true or false, got 'maybe'"),
        ("[livechat]\ndata_dir = 5", "data_dir: expected a path"),
        ("[livechat", "cannot read"),
        ("\ud800", "cannot read"),
    ],
)
def test_what_does_not_belong_in_the_file_is_refused_by_name(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "livechat.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert reason in str(caught.value)
    assert str(file) in str(caught.value)
    assert "t0psecret" not in str(caught.value)
    assert_fit_for_a_terminal(caught)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"port": "x"}, "port: expected a whole number, got 'x'"),
        ({"port": True}, "port: expected a whole number, got true"),
        ({"host": 5}, "host: expected text, got int"),
        ({"gateway": {}}, "gateway: expected its settings, got dict"),
        ({"data_dir": "here"}, "data_dir: expected a path, got str"),
        ({"chat": ChatLimits(words_file="here")}, "chat.words_file: expected a path, got str"),  # type: ignore[arg-type]
        (
            {"chat": ChatLimits(words_action="burn")},  # type: ignore[arg-type]
            "chat.words_action: expected one of reject, mask, got 'burn'",
        ),
    ],
)
def test_a_library_user_gets_the_same_errors(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**settings).check()
    assert str(caught.value) == reason


@pytest.mark.parametrize(("text", "items"), [("", ()), (" 10.0.0.0/8 , ::1 ,", ("10.0.0.0/8", "::1"))])
def test_a_list_in_the_environment_may_have_spaces_and_be_empty(
    text: str, items: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECHAT_GATEWAY_TRUSTED_PROXIES", text)
    config = load_config()
    config.check()
    assert config.gateway.trusted_proxies == items


def test_a_file_of_its_own_needs_no_section(tmp_path: Path) -> None:
    config = load_config(toml(tmp_path, "port = 3\n[gateway]\ndrain_ms = 7\n[store]\nqueue_max = 9"))
    assert (config.port, config.gateway.drain_ms, config.store.queue_max) == (3, 7, 9)


# --- tokens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "none"}, "auth.mode: expected one of both, jwt, shared-secret"),
        ({"algorithms": ()}, "auth.algorithms: expected some of HS256, EdDSA, ES256, RS256, got none"),
        (
            {"algorithms": ("HS256", "none")},
            "auth.algorithms: expected some of HS256, EdDSA, ES256, RS256, got 'none'",
        ),
        ({"cookie": ""}, "auth.cookie: expected the name of a cookie, got ''"),
        ({"cookie": "a;b"}, "auth.cookie: expected the name of a cookie, got 'a;b'"),
        ({"issuer": ""}, "auth.issuer: expected some text, got nothing"),
        ({"audience": ""}, "auth.audience: expected some text, got nothing"),
        ({"public_keys": Path("a\0b")}, "configuration: expected text in UTF-8 without NUL"),
        ({"key_file": Path("a\0b")}, "configuration: expected text in UTF-8 without NUL"),
    ],
)
def test_settings_of_tokens_that_cannot_work_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(auth=AuthSettings(**settings)).check()
    assert str(caught.value).startswith(reason)


def test_settings_of_tokens_come_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "livechat.toml"
    file.write_text('[auth]\nmode = "jwt"\npublic_keys = "keys"\nalgorithms = ["EdDSA"]\nleeway_s = 0\n')
    monkeypatch.setenv("LIVECHAT_AUTH_ISSUER", "https://id.example")
    monkeypatch.setenv("LIVECHAT_AUTH_ALGORITHMS", "EdDSA,ES256")
    auth = load_config(file).auth
    assert (auth.mode, auth.public_keys, auth.leeway_s) == ("jwt", tmp_path / "keys", 0)
    assert (auth.issuer, auth.algorithms) == ("https://id.example", ("EdDSA", "ES256"))
