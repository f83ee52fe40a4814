"""What stands around all pages."""

from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from files_app.database import is_out_of_service, sentence_of
from files_app.views.relay import error_response


class DatabaseMiddleware:
    """A page that needs the database, while that cannot be used, is a sentence and 503. Files need none."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return await self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not is_out_of_service(exception):
            return None
        message = sentence_of(exception, short=True)
        return error_response(request, 503, message, title="The database is not available")
