"""Log in, log out, change the password: Django's own views, in our look."""

import unicodedata
from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy
from django.views.decorators.http import require_POST

from files_app.access.audit import Action, record
from files_app.access.loopback import comes_from_here
from files_app.access.policy import require_person
from files_app.access.principals import address_of
from files_app.access.public import is_on_network
from files_app.access.sessions import end_sessions_of
from files_app.access.throttle import TooManyTries, Try, Who, checking, claim
from files_app.access.visitors import remember_visitor, visitor_of
from files_app.views.relay import error_response


class Login(LoginView):
    """Of the admin, too. A try is claimed before the password is looked at."""

    template_name = "login.html"
    redirect_authenticated_user = True
    _try: Try

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        remember_visitor(request, response)
        return response

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        name = unicodedata.normalize("NFKC", request.POST.get("username", "")).strip()[:150]
        try:
            self._try = claim(Who("account", name, address_of(request), visitor_of(request)))
        except TooManyTries as error:
            return self._slowed(error)
        with checking:
            return super().post(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        is_here = is_on_network() and comes_from_here(self.request, address_of(self.request))
        return super().get_context_data(**kwargs) | {"is_here": is_here}

    def _slowed(self, error: TooManyTries) -> HttpResponse:
        context = self.get_context_data(form=AuthenticationForm(), problem=str(error))
        response = self.render_to_response(context, status=429)
        response["Retry-After"] = str(error.seconds)
        return response

    def form_valid(self, form: Any) -> HttpResponse:
        self._try.succeeded()
        return super().form_valid(form)


class AdminLogin(Login):
    """Somebody who is logged in and may not use the admin is told so: a redirect would come back here."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if user.is_authenticated and not user.is_staff:
            return error_response(request, 403, "Your account may not use the admin.")
        return super().dispatch(request, *args, **kwargs)

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")


class Logout(LogoutView):
    next_page = "index"


class Account(PasswordChangeView):
    """What belongs to one's own account: the password, and its sessions. A new password ends all others."""

    template_name = "account.html"
    success_url = reverse_lazy("index")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        record(Action.PASSWORD, form.user.get_username())
        return response


@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Log out everywhere: in every browser in which this person is logged in."""
    person = require_person(request, "Log in first.")
    end_sessions_of(person.pk)
    record(Action.SESSIONS_ENDED, person.get_username())
    logout(request)
    return redirect("index")
