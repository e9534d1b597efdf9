"""livechat: a chat and voice relay server on Trio, embedded or standalone, and its client.

async with livechat.open_server(livechat.Config(port=0)) as server:
    async with livechat.open_client(server.url, token, user_id="ann") as client:
        await client.send_message("lobby", "hello")

Names are imported when they are first used: who needs only the client loads nothing of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livechat.accounts.book import Accounts
    from livechat.accounts.records import Account
    from livechat.accounts.settings import AccountSettings
    from livechat.client.client import Client, open_client
    from livechat.client.error import ClientError, FloorDenied, FloorLost, JobLost
    from livechat.client.events import ChannelLost, ChunkGap, Gap, JobGap, StateChanged
    from livechat.client.floor import HeldFloor
    from livechat.client.sent import SendChanged, SentMessage
    from livechat.client.settings import Backoff, ClientSettings
    from livechat.client.voice import VoiceKeys
    from livechat.config import Config, StoreSettings, load_config
    from livechat.credentials import mint_token
    from livechat.error import ConfigError, ContentRejected, InvalidToken, LiveError
    from livechat.files.blobs import BlobReader, BlobStore, BlobWriter
    from livechat.files.settings import FileSettings
    from livechat.gateway.rates import RateLimits
    from livechat.gateway.settings import GatewaySettings
    from livechat.handlers.auth import Authenticator, Identity, SharedSecretAuthenticator
    from livechat.handlers.content import ContentFilter, Draft, WordFilter
    from livechat.handlers.limits import ChatLimits
    from livechat.http.settings import HttpSettings
    from livechat.hub.settings import ChunkSettings, FloorSettings
    from livechat.jobs.kinds import JobContext, Partial, Progress, Result
    from livechat.jobs.settings import JobSettings
    from livechat.limits.settings import AddressLimits
    from livechat.media.settings import MediaSettings, SpeakingSettings
    from livechat.protocol.chunks import ChunkEvent
    from livechat.protocol.events import Message
    from livechat.protocol.jobs import JobEvent
    from livechat.protocol.patterns import ChannelPatterns
    from livechat.protocol.types import FileId, UserId
    from livechat.protocol.voice_events import ActiveSpeaker, MediaUpdate, SpeakingEvent
    from livechat.server import Addresses, Server, open_server
    from livechat.telemetry.masking import mask_secrets
    from livechat.tokens.issuer import IssuedToken, TokenIssuer
    from livechat.tokens.revocations import Revocations
    from livechat.tokens.settings import AuthSettings
    from livechat.tuning import calm_gc, tune_process
    from livechat.version import __version__
else:
    _HOMES = {
        "ActiveSpeaker": "protocol.voice_events",
        "AddressLimits": "limits.settings",
        "Account": "accounts.records",
        "AccountSettings": "accounts.settings",
        "Accounts": "accounts.book",
        "Addresses": "server",
        "AuthSettings": "tokens.settings",
        "Authenticator": "handlers.auth",
        "Backoff": "client.settings",
        "BlobReader": "files.blobs",
        "BlobStore": "files.blobs",
        "BlobWriter": "files.blobs",
        "ChannelLost": "client.events",
        "ChannelPatterns": "protocol.patterns",
        "ChatLimits": "handlers.limits",
        "ChunkEvent": "protocol.chunks",
        "ChunkGap": "client.events",
        "ChunkSettings": "hub.settings",
        "Client": "client.client",
        "ClientError": "client.error",
        "ClientSettings": "client.settings",
        "Config": "config",
        "ConfigError": "error",
        "ContentFilter": "handlers.content",
        "ContentRejected": "error",
        "Draft": "handlers.content",
        "FileId": "protocol.types",
        "FileSettings": "files.settings",
        "FloorDenied": "client.error",
        "FloorLost": "client.error",
        "FloorSettings": "hub.settings",
        "Gap": "client.events",
        "GatewaySettings": "gateway.settings",
        "HeldFloor": "client.floor",
        "HttpSettings": "http.settings",
        "Identity": "handlers.auth",
        "InvalidToken": "error",
        "IssuedToken": "tokens.issuer",
        "JobContext": "jobs.kinds",
        "JobEvent": "protocol.jobs",
        "JobGap": "client.events",
        "JobLost": "client.error",
        "JobSettings": "jobs.settings",
        "LiveError": "error",
        "MediaSettings": "media.settings",
        "MediaUpdate": "protocol.voice_events",
        "Message": "protocol.events",
        "Partial": "jobs.kinds",
        "Progress": "jobs.kinds",
        "RateLimits": "gateway.rates",
        "Revocations": "tokens.revocations",
        "Result": "jobs.kinds",
        "SendChanged": "client.sent",
        "SentMessage": "client.sent",
        "Server": "server",
        "SharedSecretAuthenticator": "handlers.auth",
        "SpeakingEvent": "protocol.voice_events",
        "SpeakingSettings": "media.settings",
        "StateChanged": "client.events",
        "StoreSettings": "config",
        "TokenIssuer": "tokens.issuer",
        "UserId": "protocol.types",
        "VoiceKeys": "client.voice",
        "WordFilter": "handlers.content",
        "__version__": "version",
        "calm_gc": "tuning",
        "load_config": "config",
        "mask_secrets": "telemetry.masking",
        "mint_token": "credentials",
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
    "Account",
    "AccountSettings",
    "Accounts",
    "ActiveSpeaker",
    "AddressLimits",
    "Addresses",
    "AuthSettings",
    "Authenticator",
    "Backoff",
    "BlobReader",
    "BlobStore",
    "BlobWriter",
    "ChannelLost",
    "ChannelPatterns",
    "ChatLimits",
    "ChunkEvent",
    "ChunkGap",
    "ChunkSettings",
    "Client",
    "ClientError",
    "ClientSettings",
    "Config",
    "ConfigError",
    "ContentFilter",
    "ContentRejected",
    "Draft",
    "FileId",
    "FileSettings",
    "FloorDenied",
    "FloorLost",
    "FloorSettings",
    "Gap",
    "GatewaySettings",
    "HeldFloor",
    "HttpSettings",
    "Identity",
    "InvalidToken",
    "IssuedToken",
    "JobContext",
    "JobEvent",
    "JobGap",
    "JobLost",
    "JobSettings",
    "LiveError",
    "MediaSettings",
    "MediaUpdate",
    "Message",
    "Partial",
    "Progress",
    "RateLimits",
    "Result",
    "Revocations",
    "SendChanged",
    "SentMessage",
    "Server",
    "SharedSecretAuthenticator",
    "SpeakingEvent",
    "SpeakingSettings",
    "StateChanged",
    "StoreSettings",
    "TokenIssuer",
    "UserId",
    "VoiceKeys",
    "WordFilter",
    "__version__",
    "calm_gc",
    "load_config",
    "mask_secrets",
    "mint_token",
    "open_client",
    "open_server",
    "tune_process",
]
