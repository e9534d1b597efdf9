"""Owns the server's certificate: the context that new handshakes use, and how it is replaced as the server runs.

It must not know connections; those that are open keep what they agreed on.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from livechat.error import ConfigError

log = structlog.get_logger("livechat.tls")


class Certificate:
    """A certificate chain with its key, read from two files.

    Raises:
        ConfigError: a file cannot be read, or is no certificate or key, or they do not belong together.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._context = _load(chain, key)

    def current(self) -> ssl.SSLContext:
        """Return what the next handshake is to use."""
        return self._context

    def reload(self) -> bool:
        """Read both files again. If they cannot be used, that is logged, and all stays as it was.

        Blocks; to be run in a thread.

        Returns:
            Whether new handshakes use what the files hold now.
        """
        try:
            # A context of its own: in the one that is in use, a chain without its key would break every handshake.
            self._context = _load(self._chain, self._key)
        except ConfigError as exc:
            log.error("certificate not reloaded", reason=str(exc))
            return False
        log.info("certificate reloaded", path=str(self._chain))
        return True


def _load(chain: Path, key: Path) -> ssl.SSLContext:
    for path in (chain, key):
        try:
            path.open("rb").close()
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation could make a write wait for the peer; HTTP/2 forbids it, and nobody needs it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A key with a pass phrase would stop here and ask on the terminal.
        context.load_cert_chain(chain, key, password=_refuse_password)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot use {chain} with {key}: {' '.join(str(exc).split())}") from exc
    return context


def _refuse_password() -> str:
    raise ValueError("the key must not have a pass phrase")
