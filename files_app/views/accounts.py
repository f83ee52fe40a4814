"""Log in, log out, change the password: Django's own views, in our look."""

from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.utils import timezone
from django.views.decorators.http import require_POST

from files_app.access.audit import Action, record
from files_app.access.policy import NotAllowed


class Login(LoginView):
    template_name = "login.html"
    redirect_authenticated_user = True


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
    if not request.user.is_authenticated:
        raise NotAllowed("Log in first.")
    user = str(request.user.pk)
    # A session says only inside itself whose it is. There are few of them, and this is done seldom.
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get("_auth_user_id") == user:
            session.delete()
    record(Action.SESSIONS_ENDED, request.user.get_username())
    logout(request)
    return redirect("index")
