"""Django's middleware without its detours: under ASGI Django sends every step of each to a thread and back.

Fourteen such trips for one page took longer than the page itself, and each waits its turn while downloads
keep the event loop busy. The steps only look at headers and cookies, so here they are done on the loop; those
that could wait, for a form's body or for the database, go to a thread as before.

The settings list these classes in place of Django's. Django reads ``MIDDLEWARE`` from the settings and from
nowhere else, and three of its checks look there for its own names: the settings silence these.
``tests/cfsite/test_settings.py`` runs all of Django's deployment checks as if its names stood there.
"""

from typing import Any

from asgiref.sync import sync_to_async
from csp import middleware as csp
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.middleware import clickjacking, common, csrf, security
from django.utils.deprecation import MiddlewareMixin

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class OnTheLoop(MiddlewareMixin):
    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.process_request(request) if hasattr(self, "process_request") else None
        response = response or await self.get_response(request)  # type: ignore[misc]
        if hasattr(self, "process_response"):
            if _has_something_to_save(request):
                process = sync_to_async(self.process_response, thread_sensitive=True)
                return await process(request, response)  # type: ignore[no-any-return]
            response = self.process_response(request, response)
        return response  # type: ignore[no-any-return]


def _has_something_to_save(request: HttpRequest) -> bool:
    session, waiting = getattr(request, "session", None), getattr(request, "_messages", None)
    return bool(session and session.accessed) or bool(waiting and (waiting.used or waiting.added_new))


class AuthenticationMiddleware(OnTheLoop, auth.AuthenticationMiddleware):
    pass


class SameRequestRedirect(HttpResponsePermanentRedirect):
    """After a 301 a client may make a GET of a POST, without its body."""

    status_code = 308


class CommonMiddleware(OnTheLoop, common.CommonMiddleware):
    response_redirect_class = SameRequestRedirect  # to the address with its slash


class CSPMiddleware(OnTheLoop, csp.CSPMiddleware):
    pass


class CsrfViewMiddleware(OnTheLoop, csrf.CsrfViewMiddleware):
    async def process_view(self, request: HttpRequest, *view: Any) -> HttpResponseBase | None:  # type: ignore[override]
        check = super().process_view
        if request.method in SAFE_METHODS:
            return check(request, *view)
        return await sync_to_async(check, thread_sensitive=True)(request, *view)  # reads the form


class MessageMiddleware(OnTheLoop, messages.MessageMiddleware):
    pass


class SecurityMiddleware(OnTheLoop, security.SecurityMiddleware):
    pass


class SessionMiddleware(OnTheLoop, sessions.SessionMiddleware):
    def process_request(self, request: HttpRequest) -> None:
        # A cookie in quotes can hold any character, and PostgreSQL cannot be asked for a text with a NUL.
        if "\0" in request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""):
            del request.COOKIES[settings.SESSION_COOKIE_NAME]
        super().process_request(request)


class XFrameOptionsMiddleware(OnTheLoop, clickjacking.XFrameOptionsMiddleware):
    pass
