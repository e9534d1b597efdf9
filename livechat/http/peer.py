"""Owns where a request comes from, also through proxies that are trusted."""

from __future__ import annotations

from starlette.requests import Request

from livechat.gateway.head import RequestHead, original_peer
from livechat.handlers.node import Node


def peer_host(node: Node, request: Request) -> str:
    """Return the IP literal of the client; see `livechat.gateway.head.original_peer`."""
    assert request.client is not None
    headers = tuple((name.lower(), value) for name, value in request.headers.items())
    head = RequestHead(request.method, request.url.path, headers)
    return original_peer(head, request.client.host, request.url.scheme == "https", node.trusted_proxies)[0]
