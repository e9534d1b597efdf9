"""livechat: a chat and voice relay server on Trio, embedded or standalone, and its client.

async with livechat.open_server(livechat.Config(port=0)) as server:
    async with livechat.open_client(server.url, token, user_id="ann") as client:
        await client.send_message("lobby", "hello")

Names are imported when they are first used: who needs only the client loads nothing of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livechat.client.client import Client, open_client
    from livechat.client.error import ClientError
    from livechat.client.events import ChannelLost, Gap, StateChanged
    from livechat.client.sent import SendChanged, SentMessage
    from livechat.client.settings import Backoff, ClientSettings
    from livechat.config import Config, StoreSettings, load_config
    from livechat.error import ConfigError, ContentRejected, InvalidToken, LiveError
    from livechat.gateway.rates import RateLimits
    from livechat.gateway.settings import GatewaySettings
    from livechat.handlers.auth import Authenticator, Identity, SharedSecretAuthenticator
    from livechat.handlers.content import ContentFilter, Draft, WordFilter
    from livechat.handlers.limits import ChatLimits
    from livechat.media.settings import MediaSettings
    from livechat.protocol.events import Message
    from livechat.protocol.types import UserId
    from livechat.server import Addresses, Server, open_server
    from livechat.tuning import tune_process
    from livechat.version import __version__
else:
    _HOMES = {
        "Addresses": "server",
        "Authenticator": "handlers.auth",
        "Backoff": "client.settings",
        "ChannelLost": "client.events",
        "ChatLimits": "handlers.limits",
        "Client": "client.client",
        "ClientError": "client.error",
        "ClientSettings": "client.settings",
        "Config": "config",
        "ConfigError": "error",
        "ContentFilter": "handlers.content",
        "ContentRejected": "error",
        "Draft": "handlers.content",
        "Gap": "client.events",
        "GatewaySettings": "gateway.settings",
        "Identity": "handlers.auth",
        "InvalidToken": "error",
        "LiveError": "error",
        "MediaSettings": "media.settings",
        "Message": "protocol.events",
        "RateLimits": "gateway.rates",
        "SendChanged": "client.sent",
        "SentMessage": "client.sent",
        "Server": "server",
        "SharedSecretAuthenticator": "handlers.auth",
        "StateChanged": "client.events",
        "StoreSettings": "config",
        "UserId": "protocol.types",
        "WordFilter": "handlers.content",
        "__version__": "version",
        "load_config": "config",
        "open_client": "client.client",
        "open_server": "server",
        "tune_process": "tuning",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__():
        return __all__


__all__ = [
    "Addresses",
    "Authenticator",
    "Backoff",
    "ChannelLost",
    "ChatLimits",
    "Client",
    "ClientError",
    "ClientSettings",
    "Config",
    "ConfigError",
    "ContentFilter",
    "ContentRejected",
    "Draft",
    "Gap",
    "GatewaySettings",
    "Identity",
    "InvalidToken",
    "LiveError",
    "MediaSettings",
    "Message",
    "RateLimits",
    "SendChanged",
    "SentMessage",
    "Server",
    "SharedSecretAuthenticator",
    "StateChanged",
    "StoreSettings",
    "UserId",
    "WordFilter",
    "__version__",
    "load_config",
    "open_client",
    "open_server",
    "tune_process",
]
