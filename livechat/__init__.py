"""livechat: a chat and voice relay server on Trio, embedded or standalone.

async with livechat.open_server(livechat.Config(port=0)) as server:
    print(server.url)
    await trio.sleep_forever()
"""

from __future__ import annotations

from livechat.config import Config, StoreSettings, load_config
from livechat.error import ConfigError, InvalidToken, LiveError
from livechat.gateway.settings import GatewaySettings
from livechat.handlers.auth import Authenticator, Identity, SharedSecretAuthenticator
from livechat.handlers.limits import ChatLimits
from livechat.media.settings import MediaSettings
from livechat.protocol.types import UserId
from livechat.server import Addresses, Server, open_server
from livechat.version import __version__

__all__ = [
    "Addresses",
    "Authenticator",
    "ChatLimits",
    "Config",
    "ConfigError",
    "GatewaySettings",
    "Identity",
    "InvalidToken",
    "LiveError",
    "MediaSettings",
    "Server",
    "SharedSecretAuthenticator",
    "StoreSettings",
    "UserId",
    "__version__",
    "load_config",
    "open_server",
]
