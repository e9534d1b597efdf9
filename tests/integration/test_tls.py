"""The same port with TLS: WebSocket and HTTP, and what is not TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme

import livechat
from livechat.error import ConfigError
from tests.support.client import CREATE, JOIN, MESSAGE_EVENT, identified
from tests.support.server import DEADLINE_S, SECRET, running_server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certificate_files(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """Write a certificate for loopback; return the settings that name it."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    key, chain = folder / "key.pem", folder / "cert.pem"
    certificate.private_key_pem.write_to_path(key)
    for index, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(chain, append=index > 0)
    return {"tls_cert": chain, "tls_key": key}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_chat_and_media_keys_over_wss(
    authority: trustme.CA, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    context = client_context(authority)
    context.minimum_version = context.maximum_version = version
    async with running_server(tmp_path, **certificate_files(authority, tmp_path)) as server:
        assert server.url.startswith("wss://")
        async with (
            identified(server, "alice", tls=context) as alice,
            identified(server, "bob", tls=context, binary=True) as bob,
        ):
            await alice.ack(CREATE, {"channel_id": "x"})
            await bob.ack(JOIN, {"channel_id": "x"})
            assert (await alice.ack(JOIN, {"channel_id": "x", "ssrc": 1}))["media"]["client_key"]
            for index in range(200):
                content = f"{index}" + "x" * 1900
                await alice.send(20, {"channel_id": "x", "content": content})
            await bob.expect(100)
            for index in range(200):
                assert (await bob.expect(MESSAGE_EVENT))["content"].rstrip("x") == f"{index}"


async def test_a_renewed_certificate_is_shown_after_a_reload_and_open_connections_stay(
    authority: trustme.CA, tmp_path: Path
) -> None:
    renewed = trustme.CA()
    files = certificate_files(authority, tmp_path)
    async with (
        running_server(tmp_path, **files) as server,
        identified(server, "alice", tls=client_context(authority)) as alice,
    ):
        certificate_files(renewed, tmp_path)
        assert await server.reload()
        async with identified(server, "bob", tls=client_context(renewed)):
            await alice.expect_silence()
        # What cannot be used changes nothing.
        files["tls_key"].write_text("no key")
        assert not await server.reload()
        async with identified(server, "bob", tls=client_context(renewed)):
            await alice.expect_silence()


async def test_the_client_speaks_wss(authority: trustme.CA, tmp_path: Path) -> None:
    async with running_server(tmp_path, **certificate_files(authority, tmp_path)) as server:
        context = client_context(authority)
        async with livechat.open_client(server.url, SECRET, user_id="alice", tls=context) as alice:
            await alice.create_channel("x")
            assert (await alice.join("x", ssrc=1)).media is not None
            messages = alice.messages("x")
            sent = [alice.post("x", f"{index}" + "x" * 1900) for index in range(100)]
            assert [(await each.wait()).seq for each in sent] == [*range(2, 102)]
            assert [(await anext(messages)).seq for _ in sent] == [*range(2, 102)]
        with pytest.raises(livechat.ClientError, match="certificate verify failed"):
            async with livechat.open_client(server.url, SECRET, user_id="alice"):
                raise AssertionError("nobody vouches for it")


async def test_healthz_over_https(authority: trustme.CA, tmp_path: Path) -> None:
    async with running_server(tmp_path, **certificate_files(authority, tmp_path)) as server:
        host, port = server.addresses.tcp[0]
        with trio.fail_after(DEADLINE_S):
            stream = await trio.open_ssl_over_tcp_stream(
                host, port, ssl_context=client_context(authority), https_compatible=True
            )
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join([part async for part in stream])
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"status":"ok"' in answer
        await stream.aclose()


async def test_what_is_not_tls_is_dropped_and_harms_nobody(authority: trustme.CA, tmp_path: Path) -> None:
    async with running_server(tmp_path, **certificate_files(authority, tmp_path)) as server:
        host, port = server.addresses.tcp[0]
        for hello in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(200), b"\x00"):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(hello)
                await stream.send_eof()
                with trio.fail_after(DEADLINE_S):
                    try:
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        pass
        async with identified(server, "alice", tls=client_context(authority)) as alice:
            await alice.ack(CREATE, {"channel_id": "x"})


async def test_files_that_are_no_certificate_are_refused(authority: trustme.CA, tmp_path: Path) -> None:
    files = certificate_files(authority, tmp_path)
    other = tmp_path / "other.pem"
    authority.issue_cert("other.example").private_key_pem.write_to_path(other)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    for wrong in ({"tls_key": other}, {"tls_cert": garbage}, {"tls_key": garbage}):
        with pytest.raises(ConfigError, match="cannot use"):
            async with running_server(tmp_path, **{**files, **wrong}):
                pass
