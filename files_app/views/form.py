"""Files in a form that is taken apart by Django."""

from __future__ import annotations  # only the types know what an UploadedFile is of

import contextlib
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler

from files_app.views.temporary import NoRoom, kept_on_disk


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
