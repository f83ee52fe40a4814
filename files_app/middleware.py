"""What stands around all pages."""

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from files_app.access import wrong_tokens
from files_app.access.audit import asking, write_token_uses
from files_app.access.headers import is_bearer, shown_token
from files_app.access.principals import address_of, visitor
from files_app.access.proxies import REMOTE_USER
from files_app.access.sessions import refresh_rights
from files_app.access.tokens import are_uses_due
from files_app.async_middleware import AsyncMiddleware
from files_app.database import is_out_of_service, sentence_of
from files_app.views.relay import error_response
from fileserver.wire.replies import ErrorReply


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
        if "Authorization" in request.headers:
            return await self._by_token(request)
        request.principal = visitor(request)  # type: ignore[attr-defined]
        is_local = request.principal.kind == "local"  # type: ignore[attr-defined]
        try:
            if settings.SESSION_COOKIE_NAME in request.COOKIES:
                user = await request.auser()
                if user.is_authenticated:
                    request.principal = visitor(request, user)  # type: ignore[attr-defined]
            if name := getattr(request, "scope", {}).get(REMOTE_USER):
                await _log_in_by_proxy(request, name)
            if not is_local:
                await refresh_rights()
        except Exception as error:
            if not is_out_of_service(error):
                raise
            if not is_local:
                return out_of_service(request, error)
        asking.set(request.principal)  # type: ignore[attr-defined]
        return await super().__call__(request)

    async def _by_token(self, request: HttpRequest) -> HttpResponseBase:
        """Whoever shows a token is its owner, as far as it goes, and nobody else: no session counts."""
        try:
            await refresh_rights()
            if are_uses_due():
                await sync_to_async(write_token_uses, thread_sensitive=False)()
        except Exception as error:
            if not is_out_of_service(error):
                raise
            return out_of_service(request, error)
        principal = shown_token(request)
        if principal is None:
            return wrong_token(request)
        request.principal = principal  # type: ignore[attr-defined]
        request.user, request.auser = AnonymousUser(), _nobody
        # Django's token is against other sites' pages, which cannot make a browser send this header.
        request._dont_enforce_csrf_checks = is_bearer(request)  # type: ignore[attr-defined]
        asking.set(principal)
        return await super().__call__(request)


async def _log_in_by_proxy(request: HttpRequest, name: str) -> None:
    """A trusted proxy says who this is. Only somebody with an account here is anybody."""
    user = await User.objects.filter(username=name, is_active=True).afirst() if name.isprintable() else None
    if user is not None:
        request.user = user

        async def auser() -> User:
            return user

        request.auser = auser
        request.principal = visitor(request, user)  # type: ignore[attr-defined]


async def _nobody() -> AnonymousUser:
    return AnonymousUser()


def wrong_token(request: HttpRequest) -> HttpResponse:
    try:
        wrong_tokens.count(address_of(request))
    except ErrorReply as error:
        return error_response(request, 429, error.message)
    response = error_response(request, 401, "This token is not good here, or not any more.")
    response["WWW-Authenticate"] = 'Bearer realm="files", error="invalid_token"'  # RFC 6750, section 3
    return response


def out_of_service(request: HttpRequest, error: Exception) -> HttpResponse:
    message = sentence_of(error, short=True)
    return error_response(request, 503, message, title="The database is not available")
