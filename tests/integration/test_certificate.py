"""The certificate is replaced while the server runs: by `Server.reload`, and by SIGHUP."""

from __future__ import annotations

import signal
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trustme
from structlog.testing import capture_logs

import livechat
from livechat.error import ConfigError
from livechat.gateway.tls import Certificate
from livechat.protocol.types import Address
from tests.support.client import CREATE, LIST, identified
from tests.support.process import serving
from tests.support.server import DEADLINE_S, SECRET, running_server


class Issuer:
    """An authority, and the files of a server's certificate as it last wrote them."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self._certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        self.chain, self.key = folder / "cert.pem", folder / "key.pem"
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)

    def write_chain(self) -> None:
        self.chain.write_bytes(b"".join(blob.bytes() for blob in self._certificate.cert_chain_pems))

    def write_key(self) -> None:
        self._certificate.private_key_pem.write_to_path(self.key)

    def write(self) -> None:
        self.write_chain()
        self.write_key()


@pytest.fixture
def old(tmp_path: Path) -> Issuer:
    issuer = Issuer(tmp_path)
    issuer.write()
    return issuer


@pytest.fixture
def new(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


async def shakes_hands(address: Address, client: ssl.SSLContext) -> bool:
    """Tell whether a client trusts what the server shows."""
    with trio.fail_after(DEADLINE_S):
        tcp = await trio.open_tcp_stream(*address)
        stream = trio.SSLStream(tcp, client, server_hostname="127.0.0.1", https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            return False
        finally:
            await trio.aclose_forcefully(stream)
        return True


async def test_new_handshakes_show_the_new_certificate_and_open_connections_go_on(
    old: Issuer, new: Issuer, tmp_path: Path
) -> None:
    async with running_server(tmp_path, tls_cert=old.chain, tls_key=old.key) as server:
        address = server.addresses.tcp[0]
        async with identified(server, "alice", tls=old.client) as alice:
            new.write()
            assert not await shakes_hands(address, new.client), "nothing was reloaded yet"
            assert await server.reload()
            assert await shakes_hands(address, new.client)
            assert not await shakes_hands(address, old.client)
            await alice.ack(CREATE, {"channel_id": "x"})
            async with identified(server, "bob", tls=new.client) as bob:
                assert (await bob.ack(LIST))["channels"]


async def test_a_handshake_under_way_is_not_disturbed(old: Issuer, new: Issuer, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, tls_cert=old.chain, tls_key=old.key) as server,
        await trio.open_tcp_stream(*server.addresses.tcp[0]) as tcp,
    ):
        outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = old.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        await tcp.send_all(hello[:50])
        # By then the first one was accepted as well: connections are taken in their order.
        assert await shakes_hands(server.addresses.tcp[0], old.client)
        new.write()
        assert await server.reload()
        await tcp.send_all(hello[50:])
        with trio.fail_after(DEADLINE_S):
            while tls.cipher() is None or outgoing.pending == 0:
                incoming.write(await tcp.receive_some())
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
        assert tls.getpeercert() is not None


@pytest.mark.parametrize("fault", ["garbage", "gone", "key of another", "pass phrase", "cut short"])
async def test_a_certificate_that_cannot_be_used_is_logged_and_the_old_one_stays(
    fault: str, old: Issuer, new: Issuer, tmp_path: Path
) -> None:
    async with running_server(tmp_path, tls_cert=old.chain, tls_key=old.key) as server:
        spoil(fault, old, new)
        with capture_logs() as logs:
            assert not await server.reload()
        (entry,) = logs
        assert (entry["event"], entry["log_level"]) == ("certificate not reloaded", "error")
        assert entry["reason"].isprintable()
        assert str(old.chain) in entry["reason"]
        assert await shakes_hands(server.addresses.tcp[0], old.client)
        new.write()
        assert await server.reload()
        assert await shakes_hands(server.addresses.tcp[0], new.client)


def spoil(fault: str, old: Issuer, new: Issuer) -> None:
    if fault == "garbage":
        old.chain.write_text("nothing")
    elif fault == "gone":
        old.chain.unlink()
    elif fault == "key of another":
        # As between the two writes of who replaces them.
        new.write_chain()
    elif fault == "cut short":
        old.chain.write_bytes(old.chain.read_bytes()[:300])
    else:
        old.key.write_text(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
            "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBDhCVqnZUGZ3RLb2xZR\n"
            "-----END ENCRYPTED PRIVATE KEY-----\n"
        )


def test_files_that_are_no_certificate_are_the_operators_mistake(old: Issuer, tmp_path: Path) -> None:
    for chain, key in ((tmp_path / "none.pem", old.key), (old.chain, tmp_path / "none.pem"), (old.key, old.key)):
        with pytest.raises(ConfigError) as caught:
            Certificate(chain, key)
        assert str(caught.value).isprintable()


async def test_sighup_replaces_it_and_a_bad_one_costs_one_line(old: Issuer, new: Issuer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--tls-cert", str(old.chain), "--tls-key", str(old.key), "--log-format", "json")
    async with serving(tmp_path / "data", *flags, env={"LIVECHAT_SECRET": SECRET}, log=log) as server:
        address = server_address(server.url)
        old.key.write_text("nothing")
        server.send(signal.SIGHUP)
        await wait_for_line(log, "certificate not reloaded")
        assert await shakes_hands(address, old.client)

        new.write()
        server.send(signal.SIGHUP)
        await wait_for_line(log, "certificate reloaded")
        assert await shakes_hands(address, new.client)
        assert not await shakes_hands(address, old.client)
        async with livechat.open_client(server.url, SECRET, user_id="alice", tls=new.client):
            pass
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
    said = log.read_text()
    assert said.count("not reloaded") == 1
    assert "Traceback" not in said


def server_address(url: str) -> Address:
    return "127.0.0.1", int(url.removesuffix("/ws").rpartition(":")[2])


async def wait_for_line(log: Path, text: str) -> None:
    with trio.fail_after(DEADLINE_S):
        # Another process has no event to wait for.
        while text not in log.read_text():  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)
