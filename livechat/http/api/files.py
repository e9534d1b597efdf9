"""Serves files: taking one in, giving it out whole or in part, removing it.

It must not know how they are kept, nor who may have them (`livechat.files`).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

import attrs
from starlette.responses import Response

from livechat.error import ContentRejected, FileNotFound, Forbidden, PayloadTooLarge
from livechat.files.body import FORM_OVERHEAD_BYTES, FormBody, body_of_untrusted
from livechat.files.names import FILES_PATH, NAME_CHARS_MAX, file_url
from livechat.files.ranges import Verdict, select_untrusted
from livechat.files.service import Actor
from livechat.files.types import DEFAULT_TYPE, TypeRefused
from livechat.handlers.access import check_channels
from livechat.handlers.auth import ADMIN_SCOPE
from livechat.handlers.content import Draft, filtered
from livechat.http import problems
from livechat.http.endpoint import OF_MEMBERS, READING, WRITING, Answer, Call, Endpoint
from livechat.http.file_response import FileResponse, etag_of, headers_of
from livechat.http.host import limit_body
from livechat.http.problems import PreconditionFailed, RangeNotSatisfiable
from livechat.protocol.types import ChannelId, FileId
from livechat.protocol.validators import length

LIMITED_BY_SETTINGS: Final = 2**62
"""The limit of a body that the endpoint sets itself, as it depends on the configuration."""


@attrs.frozen
class FileUpload:
    """Where a file is meant for."""

    channel_id: ChannelId
    """Of which one must be a member; only a message in it can refer to the file."""
    name: str | None = attrs.field(default=None, validator=length(1, NAME_CHARS_MAX))
    """What the file is called; left out: as Content-Disposition or the form says."""


@attrs.frozen
class UploadedFile:
    """A file that was taken in."""

    file_id: FileId
    url: str
    """Relative to the server; for `attachment.url`."""
    name: str
    """As it is told to others: without folders and characters that deceive."""
    bytes: int
    mime: str
    sha256: str
    """Of its bytes, in hex."""
    created_at: int
    """Milliseconds since 1970."""


async def upload(call: Call) -> Answer:
    """Take a file in."""
    files, wanted, headers = call.node.files, call.query, call.request.headers
    check_channels(call.identity.channels, wanted)
    limit_body(call.request.scope, files.settings.file_bytes + FORM_OVERHEAD_BYTES)
    body = body_of_untrusted(headers.get("content-type"), headers.get("content-disposition"), wanted.name)
    stated = int(headers.get("content-length", "0"))
    async with aclosing(call.request.stream()) as pieces:
        row = await files.take(
            actor_of(call),
            wanted.channel_id,
            body,
            pieces,
            lambda name: _approve(call, wanted.channel_id, name),
            bytes_least=max(0, stated - FORM_OVERHEAD_BYTES) if isinstance(body, FormBody) else stated,
        )
    url = file_url(row.file_id)
    made = UploadedFile(row.file_id, url, row.name, row.bytes, row.mime, row.sha256, row.created_at)
    return Answer(made, 201, {"location": url})


def _approve(call: Call, channel_id: ChannelId, name: str) -> None:
    """Ask the content filter for the name: it is what others will see, whatever the message says.

    Raises:
        ContentRejected: it is not to be.
    """
    if call.node.content_filter is not None:
        filtered(call.node.content_filter, Draft(channel_id, call.identity.user_id, "FILE", "", name))


async def download(call: Call) -> Response:
    """Give a file out: the whole, a part, or that the client has it already."""
    files, request = call.node.files, call.request
    row = await files.find(actor_of(call), call.path["file_id"])
    selection = select_untrusted(request.headers, etag_of(row), row.bytes, is_get=request.method == "GET")
    match selection.verdict:
        case Verdict.NOT_MODIFIED:
            return Response(None, 304, headers_of(row))
        case Verdict.PRECONDITION_FAILED:
            return problems.respond(PreconditionFailed("if-match: the file is another one"))
        case Verdict.NOT_SATISFIABLE:
            refusal = RangeNotSatisfiable(f"range: the file has {row.bytes} bytes")
            return problems.respond(refusal, {"content-range": f"bytes */{row.bytes}"})
    return FileResponse(files, row, selection)


async def remove(call: Call) -> Answer:
    """Remove a file that no message refers to; who may do all, any."""
    await call.node.files.delete(actor_of(call), call.path["file_id"])
    return Answer(None, 204)


def actor_of(call: Call) -> Actor:
    """Return who asks, as far as files are concerned; only the scope `admin` may do all."""
    identity = call.identity
    return Actor(identity.user_id, ADMIN_SCOPE in identity.scopes, identity.channels)


_ONE: Final = f"{FILES_PATH}/{{file_id}}"

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "POST",
        FILES_PATH,
        upload,
        "files",
        "Upload a file",
        "user",
        query=FileUpload,
        answers={201: UploadedFile},
        errors=(*OF_MEMBERS, Forbidden, PayloadTooLarge, TypeRefused, ContentRejected, *WRITING, *READING),
        description="For members of the channel. The body is the file, with its Content-Type, or a form "
        "(multipart/form-data) of which the first part with a file name is it. Nobody else sees the file until "
        "its uploader sends a message to that channel with `attachment.url` set to `url`; without one it is "
        "removed after a day (`files.unattached_ttl_ms`).",
        raw=True,
        consumes=DEFAULT_TYPE,
        body_bytes_max=LIMITED_BY_SETTINGS,
        request_headers={"Content-Disposition": "`attachment; filename=…`: what the file is called."},
        answer_headers={"Location": "Where the file is."},
    ),
    Endpoint(
        "GET",
        _ONE,
        download,
        "files",
        "Download a file",
        "user",
        answers={200: None, 206: None, 304: None},
        errors=(FileNotFound, RangeNotSatisfiable, PreconditionFailed, *READING),
        description="For members of the channel in which a message refers to it; before, for its uploader. A "
        "single range of bytes is answered with that part, several with the whole. What a browser could run is "
        "sent to be saved only.",
        produces={200: DEFAULT_TYPE, 206: DEFAULT_TYPE},
        request_headers={
            "Range": "`bytes=0-499`: only this part.",
            "If-Range": "The part only if the file still has this ETag, else the whole.",
            "If-None-Match": "304 if the file has one of these ETags.",
            "If-Match": "412 unless the file has one of these ETags.",
        },
        answer_headers={
            "ETag": "The SHA-256 of the file.",
            "Content-Disposition": "The file's name, and whether it may be shown in place.",
            "Content-Range": "Which part it is.",
            "Accept-Ranges": "`bytes`.",
        },
    ),
    Endpoint(
        "DELETE",
        _ONE,
        remove,
        "files",
        "Remove a file",
        "user",
        answers={204: None},
        errors=(FileNotFound, Forbidden, *WRITING, *READING),
        description="For its uploader while no message refers to it; with the scope `admin`, at any time.",
    ),
)
