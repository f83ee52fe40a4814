"""What a request of tus 1.0 says in its headers, and what is wrong with it.

What belongs to an extension that is not offered is refused, never ignored: a part that is meant to be joined
with others would become a file of its own.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest

from files_app.views.bodies import number_in, packing_of
from fileserver.wire.fields import MAX_METADATA

VERSION = "1.0.0"
EXTENSIONS = ("creation", "creation-with-upload", "termination", "expiration", "checksum")
ALGORITHMS: dict[str, Any] = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
PART_TYPE = "application/offset+octet-stream"
# Of the headers that begin with "Upload-"; what to do about a name that is taken is an addition of ours.
KNOWN = {"upload-length", "upload-offset", "upload-metadata", "upload-checksum", "upload-exists"}


class Refused(Exception):
    """Answered with a status, a sentence, and headers."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def require_offered(request: HttpRequest) -> None:
    for header in _extra_headers(request):
        offered = ", ".join(EXTENSIONS)
        raise Refused(400, f"{header} is not understood here; the extensions that are offered: {offered}.")


def _extra_headers(request: HttpRequest) -> Iterator[str]:
    for name in request.headers:
        if name.lower().startswith("upload-") and name.lower() not in KNOWN:
            yield name
    for name in request.headers.get("Trailer", "").split(","):
        if name.strip().lower().startswith("upload-"):
            yield f"{name.strip()} behind the body"


def number(request: HttpRequest, header: str) -> int:
    found = number_in(request.headers.get(header, ""))
    if found is None:
        raise Refused(400, f"{header} must be a number of bytes.")
    return found


def is_part(request: HttpRequest) -> bool:
    """Whether the body is said to be bytes of the file; media types know no capitals (RFC 9110, 8.3.1)."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == PART_TYPE


def metadata(request: HttpRequest) -> dict[str, bytes]:
    """``Upload-Metadata``: pairs of a key and a value in Base64, with commas between them."""
    given = request.headers.get("Upload-Metadata", "")
    if len(given) > MAX_METADATA or not given.isascii():
        raise Refused(400, f"Upload-Metadata must have at most {MAX_METADATA} characters, all of ASCII.")
    found: dict[str, bytes] = {}
    for pair in filter(None, map(str.strip, given.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise Refused(400, f"Upload-Metadata must not have a key twice: {key}.")
        try:
            found[key] = base64.b64decode(value, validate=True)
        except ValueError:
            raise Refused(400, "Upload-Metadata must be pairs of a key and a value in Base64.") from None
    return found


def text_in(found: dict[str, bytes], key: str) -> str | None:
    """The value of a key that is for us; others may be any bytes."""
    try:
        return found[key].decode("utf-8") if key in found else None
    except UnicodeDecodeError:
        raise Refused(400, f"Upload-Metadata must have UTF-8 under {key}.") from None


def checksum(request: HttpRequest) -> tuple[Any, bytes] | None:
    """A hash to be fed with the body, and what its digest is said to be."""
    claim = request.headers.get("Upload-Checksum")
    if claim is None:
        return None
    algorithm, _, digest = claim.partition(" ")
    if algorithm not in ALGORITHMS:
        raise Refused(400, f"A checksum must be one of {', '.join(ALGORITHMS)}.")
    try:
        return ALGORITHMS[algorithm](), base64.b64decode(digest, validate=True)
    except ValueError:
        raise Refused(400, "A checksum must be in Base64.") from None


def require_same_length(request: HttpRequest, size: int) -> None:
    if "Upload-Length" in request.headers and number(request, "Upload-Length") != size:
        raise Refused(400, f"The upload has {size} bytes; its length cannot be changed.")


def require_part(request: HttpRequest) -> None:
    if not is_part(request):
        raise Refused(415, f"A part must have the Content-Type {PART_TYPE}.")
    if packing := packing_of(request):
        message = f"A part is kept as it comes: send it as it is, not as {packing}."
        raise Refused(415, message, **{"Accept-Encoding": "identity"})


def require_fitting(length: int, missing: int) -> None:
    if length > missing:
        raise Refused(413, f"The part has {length} bytes, but only {missing} are missing.")
