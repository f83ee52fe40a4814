"""Uploads from a plain form, which Django takes apart: for browsers without scripts."""

from __future__ import annotations  # only the types know what an UploadedFile is of

import contextlib
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from files_app.access.origin import require_own_page
from files_app.access.policy import require_put
from files_app.access.public import server_address
from files_app.views.relay import (
    HTTP_STATUS,
    Offline,
    blocking_client,
    error_response,
    on_behalf_of,
)
from files_app.views.temporary import NoRoom, kept_on_disk
from fileserver.wire.replies import BadReply, ErrorReply


class NoRoomForForm(NoRoom, SuspiciousOperation):
    """Django asks ``views.bad_request`` what to answer, wherever the form was looked into."""


class DiskUploadHandler(TemporaryFileUploadHandler):
    """Django's own, which on a full disk would leave its file behind."""

    file: Any

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        with kept_on_disk(NoRoomForForm):
            super().new_file(*args, **kwargs)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        with self._kept():
            return super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size: int) -> UploadedFile[Any] | None:
        with self._kept():
            return super().file_complete(file_size)

    @contextlib.contextmanager
    def _kept(self) -> Any:
        try:
            with kept_on_disk(NoRoomForForm):
                yield
        except NoRoomForForm:
            with contextlib.suppress(OSError):  # it tries to write once more, and is removed all the same
                self.file.close()
            raise


@csrf_exempt
@require_POST
def upload_form(request: HttpRequest) -> HttpResponse:
    """Not async: taking it apart would hold up the others."""
    require_own_page(request)
    file = request.FILES.get("file")
    if file is None or not file.name:
        return error_response(request, 400, "No file was chosen.")
    exists = request.POST.get("exists") or "fail"
    require_put(request, exists, file.name)  # which is not known before the form has been taken apart
    try:
        with blocking_client() as client:
            client.put(file.name, file, file.size or 0, exists=exists, **on_behalf_of(request))
    except ErrorReply as error:
        return error_response(request, HTTP_STATUS.get(error.code, 502), error.message)
    except (OSError, BadReply, Offline):
        return error_response(
            request, 503, f"The file server at {server_address()} cannot be reached; try again."
        )
    return redirect("index")
