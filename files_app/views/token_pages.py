"""``/account/tokens/``: the tokens of whoever is logged in."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from files_app.access.audit import Action, record
from files_app.access.policy import require_person
from files_app.access.tokens import new_token, revoke
from files_app.models import Token
from files_app.models.tokens import TOKEN_RIGHTS
from fileserver.names import BadName, check_safe, composed


class TokenForm(forms.Form):
    name = forms.CharField(max_length=100)
    rights = forms.MultipleChoiceField(choices=[(right, right) for right in TOKEN_RIGHTS])
    folder = forms.CharField(max_length=1024, required=False)
    days = forms.IntegerField(min_value=1, max_value=3650)

    def clean_folder(self) -> str:
        folder = composed(self.cleaned_data["folder"].strip("/"))
        try:
            if folder:
                check_safe(folder)
        except BadName as error:
            raise forms.ValidationError(str(error)) from None
        return folder


@require_http_methods(["GET", "HEAD", "POST"])
def account_tokens(request: HttpRequest) -> HttpResponse:
    person, text = _person(request), ""
    form = TokenForm(request.POST or None, initial={"rights": ["list", "get"], "days": 90})
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        ends = timezone.now() + timedelta(days=given["days"])
        token, text = new_token(person, given["name"], given["rights"], given["folder"], ends)
        record(Action.TOKEN_MADE, str(token))
    tokens = Token.objects.filter(owner=person, revoked_at=None)
    context: dict[str, Any] = {"form": form, "tokens": tokens, "text": text, "rights": TOKEN_RIGHTS}
    context["chosen"] = form["rights"].value() or []
    response = render(request, "tokens.html", context, status=400 if form.errors else 200)
    response["Cache-Control"] = "no-store"  # the text of a new one is shown once
    return response


@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    token = Token.objects.filter(pk=pk, owner=_person(request), revoked_at=None).first()
    if token is None:
        raise Http404
    revoke(token)
    record(Action.TOKEN_REVOKED, str(token))
    return redirect("tokens")


def _person(request: HttpRequest) -> User:
    return require_person(request, "Log in to make tokens: a token may do no more than its owner.")
