"""Log in, log out, change the password: Django's own views, in our look."""

from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.views.decorators.http import require_POST

from files_app.access.loopback import comes_from_here
from files_app.access.policy import NotAllowed
from files_app.access.principals import address_of
from files_app.access.public import is_on_network
from files_app.access.sessions import end_sessions_of


class Login(LoginView):
    template_name = "login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        is_here = is_on_network() and comes_from_here(self.request, address_of(self.request))
        return super().get_context_data(**kwargs) | {"is_here": is_here}


class Logout(LogoutView):
    next_page = "index"


class Account(PasswordChangeView):
    """What belongs to one's own account: the password, and its sessions. A new password ends all others."""

    template_name = "account.html"
    success_url = reverse_lazy("index")


@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Log out everywhere: in every browser in which this person is logged in."""
    if not request.user.is_authenticated:
        raise NotAllowed("Log in first.")
    end_sessions_of(request.user.pk)
    logout(request)
    return redirect("index")
