"""Owns the configuration: its shape, where it comes from (TOML < environment < flags), and what makes it valid.

It must not open anything but the configuration file. Secrets are masked in every repr.
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import attrs
import cattrs
import typed_settings as ts
from typed_settings.converters import get_default_cattrs_converter, register_strlist_hook
from typed_settings.exceptions import TsError

from livechat.accounts.settings import AccountSettings
from livechat.error import ConfigError
from livechat.files.settings import FileSettings
from livechat.gateway.rates import RateLimits
from livechat.gateway.settings import GatewaySettings
from livechat.handlers.auth import SECRET_LENGTH_MIN, SECRET_VARIETY_MIN, is_guessable
from livechat.handlers.limits import ChatLimits
from livechat.http.settings import HttpSettings, check_origins
from livechat.hub.settings import ChunkSettings, FloorSettings
from livechat.jobs.settings import JobSettings
from livechat.limits.settings import AddressLimits
from livechat.media.settings import MediaSettings, SpeakingSettings
from livechat.store.location import locate, mask
from livechat.tokens.private_file import obtain_private, read_private
from livechat.tokens.settings import AuthSettings

ENV_PREFIX: Final = "LIVECHAT_"
TOML_SECTION: Final = "livechat"
SECRET_FILE: Final = "secret"  # noqa: S105 - a file's name, not a secret
GOT_CHARS_MAX: Final = 60
"""How much of a wrong value is shown."""
NODE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen
class StoreSettings:
    """Where channels and messages are kept, and how the store is bounded."""

    url: str | None = attrs.field(default=None, repr=mask)
    """`sqlite:///path`, `postgresql://user@host/database` or `memory:`; left out: SQLite in `data_dir`."""
    synchronous: Literal["full", "normal"] = "full"
    """Of SQLite. `normal` is faster, but a power cut may take back the last seconds of what was acknowledged."""
    timeout_ms: int = 5_000
    """A write that is not committed by then fails with ERROR 3005."""
    queue_max: int = 65_536
    """Operations waiting for the store; more get ERROR 9001."""


@attrs.frozen
class Config:
    """Everything that can be set. Every field has a default that works on a developer's machine."""

    host: str = "127.0.0.1"
    """Where to listen: a name or an IP literal, for TCP and UDP."""
    port: int = 8080
    """TCP port for WebSocket and HTTP; 0: any free one."""
    udp_port: int = 10000
    """UDP port for media, with `media.workers` of the first worker; 0: any free one."""
    udp_host: str | None = None
    """Where to listen for media: an IP address; left out: where `host` is. Behind a proxy on this machine that one
    is loopback."""
    advertise_host: str | None = None
    """What clients are told to send media to; left out: the address at which they reached the gateway."""
    data_dir: Path = Path("livechat-data")
    """Where the database and the generated secret are kept."""
    tls_cert: Path | None = None
    """PEM file with the certificate chain; with `tls_key` it turns TLS on."""
    tls_key: Path | None = None
    """PEM file with the private key."""
    secret: str | None = ts.secret(default=None)
    """The shared secret that clients show as their token; left out: one is made and kept in `data_dir`."""
    secret_file: Path | None = None
    """Holds the shared secret instead; it must be there, and its group may read it."""
    node_id: str | None = None
    """This server's name among others; left out: a random one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    auth: AuthSettings = AuthSettings()
    accounts: AccountSettings = AccountSettings()
    gateway: GatewaySettings = GatewaySettings()
    http: HttpSettings = HttpSettings()
    rates: RateLimits = RateLimits()
    addresses: AddressLimits = AddressLimits()
    chat: ChatLimits = ChatLimits()
    media: MediaSettings = MediaSettings()
    speaking: SpeakingSettings = SpeakingSettings()
    floor: FloorSettings = FloorSettings()
    chunks: ChunkSettings = ChunkSettings()
    jobs: JobSettings = JobSettings()
    files: FileSettings = FileSettings()
    store: StoreSettings = StoreSettings()

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened.

        Raises:
            ConfigError: names the setting, what was expected and what came.
        """
        _check_types(self)
        for name, port in (("port", self.port), ("udp_port", self.udp_port)):
            if not 0 <= port <= 65535:
                raise ConfigError(f"{name}: expected 0 to 65535, got {port}")
        if not self.host:
            raise ConfigError("host: expected a name or an IP address, got nothing")
        if self.advertise_host is not None and not self.advertise_host:
            raise ConfigError("advertise_host: expected a name or an IP address, got nothing")
        if self.udp_host is not None and not _is_ip_address(self.udp_host):
            raise ConfigError(f"udp_host: expected an IP address, got {self.udp_host!r}")
        if self.secret is not None and self.secret_file is not None:
            raise ConfigError("secret and secret_file: expected one of them, got both")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key: expected both or neither")
        texts = (self.host, self.secret, self.advertise_host)
        paths = (self.data_dir, self.secret_file, self.tls_cert, self.tls_key, self.chat.words_file)
        keys = (self.auth.key_file, self.auth.public_keys)
        for text in map(str, filter(None, (*texts, *paths, *keys, self.store.url))):
            if "\0" in text or not _is_unicode(text):
                raise ConfigError("configuration: expected text in UTF-8 without NUL")
        if self.secret is not None and not self.secret:
            raise ConfigError("secret: expected some text, got nothing")
        if self.node_id is not None and NODE_ID.fullmatch(self.node_id) is None:
            raise ConfigError(f"node_id: expected 1 to 64 letters, digits or _ . -, got {self.node_id!r}")
        for group in GROUPS:
            _check_positive(group, getattr(self, group))
        self.auth.check()
        self.accounts.check(self.auth)
        self.files.check()
        self.media.check(self.udp_port)
        self.speaking.check()
        self.http.check()
        if self.rates.chunk_bytes_per_s > 0 and self.rates.chunk_bytes_burst < self.chunks.data_bytes:
            raise ConfigError(
                f"rates.chunk_bytes_burst: expected at least chunks.data_bytes, {self.chunks.data_bytes}, "
                f"got {self.rates.chunk_bytes_burst}"
            )
        check_origins("gateway.allowed_origins", list(self.gateway.allowed_origins))
        locate(self.store.url, self.data_dir)
        for proxy in self.gateway.trusted_proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ConfigError(
                    f"gateway.trusted_proxies: expected IP addresses or networks, got {proxy!r}"
                ) from None

    def doubts(self) -> list[str]:
        """Return what an operator should know of settings of which one makes another pointless, a line each."""
        return [*self.gateway.doubts(self.chunks.data_bytes), *self.chunks.doubts()]


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


GROUPS: Final = (
    *("auth", "accounts", "gateway", "rates", "addresses", "chat", "media", "speaking", "floor", "chunks"),
    *("jobs", "files", "store"),
)
MAY_BE_ZERO: Final = {
    *("resume_window_ms", "drain_ms", "close_timeout_ms", "leeway_s"),
    *("presence_grace_ms", "presence_interval_ms", "progress_interval_ms", "cleanup_ms"),
    *("user_timeout_ms", "accepts_per_s", "egress_total_bytes"),
    *("messages_per_s", "history_per_s", "sync_per_s", "read_per_s", "others_per_s"),
    *("chunks_per_s", "chunk_bytes_per_s"),
    *("connects_per_min", "connections", "failures_per_min", "waiting_max"),
    *("rekey_after_ms", "audio_level_id", "transport_cc_id", "resend_bytes"),
    "workers",
}


def _check_positive(group: str, settings: Any) -> None:
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        least = 0 if field.name in MAY_BE_ZERO else 1
        if type(value) is int and value < least:
            raise ConfigError(f"{group}.{field.name}: expected at least {least}, got {value}")


def load_config(file: Path | None = None, flags: dict[str, Any] | None = None) -> Config:
    """Read the configuration: the TOML file (or its `[livechat]`), over it `LIVECHAT_*`, over that the flags.

    Args:
        file: None: no file.
        flags: fields of `Config` by name, those of a group as `group.name`; None values count as left out.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or of the wrong type; names the setting or
            the variable, what was expected and what came.
    """
    loaders: list[Any] = []
    if file is not None:
        loaders.append(ts.FileLoader({"*": ts.TomlFormat(_check_file(file))}, [file]))
    loaders.append(ts.EnvLoader(ENV_PREFIX))
    converter = _converter()
    _check_environment(Config, converter, ENV_PREFIX)
    try:
        config = ts.load_settings(Config, loaders, converter=converter)
    except (TsError, ValueError, TypeError) as exc:
        raise ConfigError(f"configuration: {_first_line(exc)}") from exc
    for name, value in (flags or {}).items():
        if value is not None:
            config = _override(config, name, value)
    return config


def _override(settings: Any, name: str, value: object) -> Any:
    group, dot, rest = name.partition(".")
    return attrs.evolve(settings, **{group: _override(getattr(settings, group), rest, value) if dot else value})


def _check_file(file: Path) -> str | None:
    """Check that a TOML file holds nothing but what `Config` has, in its types: the loader would turn true into 1.

    Returns:
        The section that holds the settings; None if they stand at the top.

    Raises:
        ConfigError: it cannot be read or parsed, or something in it is unknown or of the wrong type.
    """
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {(exc.strerror or str(exc)).lower()}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"cannot read {file}: {exc}") from exc
    if TOML_SECTION not in document:
        _check_document(file, Config, document, "")
        return None
    for name in document:
        if name != TOML_SECTION:
            raise ConfigError(f"{file}: expected everything in [{TOML_SECTION}], got {name!r} beside it")
    if not isinstance(document[TOML_SECTION], dict):
        raise ConfigError(f"{file}: expected a section [{TOML_SECTION}]")
    _check_document(file, Config, document[TOML_SECTION], "")
    return TOML_SECTION


def _check_document(file: Path, cls: type[Any], settings: dict[str, Any], prefix: str) -> None:
    fields = {field.name: field for field in attrs.fields(attrs.resolve_types(cls))}
    for name, value in settings.items():
        if name not in fields:
            raise ConfigError(f"{file}: {prefix}{name}: there is no such setting")
        kind = fields[name].type
        if attrs.has(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"{file}: expected a section for {prefix}{name}")
            _check_document(file, kind, value, f"{name}.")
        elif not _fits(Path(value) if isinstance(value, str) and _takes_path(kind) else value, kind):
            raise ConfigError(f"{file}: {prefix}{name}: expected {_describe(kind)}, got {_got(value, kind)}")


def _check_environment(cls: type[Any], converter: cattrs.Converter, prefix: str) -> None:
    """Check that the variables that name a setting hold what it takes: the loader would not say which does not.

    Raises:
        ConfigError: names the variable, what was expected and what came.
    """
    for field in attrs.fields(attrs.resolve_types(cls)):
        name = prefix + field.name.upper()
        if attrs.has(field.type):
            _check_environment(field.type, converter, f"{name}_")
        elif name in os.environ:
            text = os.environ[name]
            try:
                converter.structure(text, field.type)
            except Exception:  # noqa: BLE001 - of what is no choice, cattrs says so by a bare Exception
                expected, got = _describe(field.type), _got(text, field.type)
                raise ConfigError(f"{name}: expected {expected}, got {got}") from None


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a setting's type, without turning anything into anything else."""
    if kind in (int, bool, str):
        return type(value) is kind
    if kind is Path:
        return isinstance(value, Path)
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(type(item) is str for item in value)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(value is None if member is NoneType else _fits(value, member) for member in get_args(kind))
    return isinstance(value, kind)


def _takes_path(kind: Any) -> bool:
    return kind is Path or Path in get_args(kind)


def _describe(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list of text"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe(member) for member in get_args(kind) if member is not NoneType)
    return {int: "a whole number", bool: "true or false", str: "text", Path: "a path"}.get(kind, str(kind))


def _got(value: object, kind: Any) -> str:
    """Say what came instead of a setting: the value, but only its type where it may be a secret."""
    members = [member for member in get_args(kind) if member is not NoneType]
    if get_origin(kind) in (Union, UnionType) and len(members) == 1:
        return _got(value, members[0])
    if kind not in (int, bool) and get_origin(kind) is not Literal:
        return type(value).__name__
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= GOT_CHARS_MAX else f"{text[:GOT_CHARS_MAX]}…"


def _check_types(settings: Any, prefix: str = "") -> None:
    for field in attrs.fields(attrs.resolve_types(type(settings))):
        value = getattr(settings, field.name)
        if not _fits(value, field.type):
            expected = "its settings" if attrs.has(field.type) else _describe(field.type)
            raise ConfigError(f"{prefix}{field.name}: expected {expected}, got {_got(value, field.type)}")
        if attrs.has(field.type):
            _check_types(value, f"{field.name}.")


def _converter() -> cattrs.Converter:
    """Read lists from the environment by their commas; the default, a colon, is part of origins and of IPv6."""
    converter = get_default_cattrs_converter()
    register_strlist_hook(converter, fn=_split_list)
    return converter


def _split_list(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _first_line(exc: BaseException) -> str:
    """Return the text of the innermost cause that has one, on one line."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return " ".join(str(exc).split())[:300]


def obtain_secret(config: Config) -> str:
    """Return the configured secret, or the one kept in the data folder, made there if there is none yet.

    The folder and the file can be read by their owner only (modes 0700 and 0600).

    Raises:
        ConfigError: the file cannot be read or made, others can read it, or nothing is in it.
    """
    if config.secret is not None:
        return config.secret
    if config.secret_file is not None:
        return read_secret(config)
    return obtain_private(secret_path(config), secrets.token_urlsafe(32))


def check_secret(secret: str) -> None:
    """Refuse to show a guessable secret to a network.

    Raises:
        ConfigError: it is guessable.
    """
    if is_guessable(secret):
        raise ConfigError(
            f"secret: listening beyond loopback takes at least {SECRET_LENGTH_MIN} characters, "
            f"{SECRET_VARIETY_MIN} of them different, without a pattern"
        )


def secret_path(config: Config) -> Path:
    """Return where the secret is kept, if it is not among the settings."""
    return config.secret_file if config.secret_file is not None else config.data_dir / SECRET_FILE


def read_secret(config: Config) -> str:
    """Return the secret that is kept in a file.

    Raises:
        ConfigError: the file cannot be read, others can read it, or nothing is in it.
    """
    return read_private(secret_path(config), group_may_read=config.secret_file is not None)
