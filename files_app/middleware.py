"""What stands around all pages."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from files_app.async_middleware import AsyncMiddleware
from files_app.database import is_out_of_service, sentence_of
from files_app.views.relay import error_response


class DatabaseMiddleware(AsyncMiddleware):
    """A page that needs the database, while that cannot be used, is a sentence and 503. Files need none.

    What no database may be asked for is refused here, for every page: PostgreSQL knows no text with a NUL.
    """

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "%00" in request.META["QUERY_STRING"]:
            return error_response(request, 400, "There is a NUL character (%00) in the address.")
        return await super().__call__(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not is_out_of_service(exception):
            return None
        message = sentence_of(exception, short=True)
        return error_response(request, 503, message, title="The database is not available")
