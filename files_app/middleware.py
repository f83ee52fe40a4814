"""What stands around all pages."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from files_app.access.audit import asking
from files_app.access.principals import visitor
from files_app.access.sessions import refresh_rights
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
        return out_of_service(request, exception)


class AccessMiddleware(AsyncMiddleware):
    """Find out who asks (``request.principal``), and what has changed in their rights.

    Somebody at this machine needs no database for that, so it may be away; then nobody knows their name.
    """

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.principal = visitor(request)  # type: ignore[attr-defined]
        is_local = request.principal.kind == "local"  # type: ignore[attr-defined]
        try:
            if settings.SESSION_COOKIE_NAME in request.COOKIES:
                user = await request.auser()
                if user.is_authenticated:
                    request.principal = visitor(request, user)  # type: ignore[attr-defined]
            if not is_local:
                await refresh_rights()
        except Exception as error:
            if not is_out_of_service(error):
                raise
            if not is_local:
                return out_of_service(request, error)
        asking.set(request.principal)  # type: ignore[attr-defined]
        return await super().__call__(request)


def out_of_service(request: HttpRequest, error: Exception) -> HttpResponse:
    message = sentence_of(error, short=True)
    return error_response(request, 503, message, title="The database is not available")
