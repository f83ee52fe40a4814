"""``/access/``: what somebody may do with a file or a folder, and which rule says so."""

from typing import Any, NamedTuple

from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from files_app.access.policy import may, require
from files_app.access.rules import Rule, Subject
from files_app.access.snapshot import SERVER_RIGHTS, snapshots
from files_app.models import AccessRule
from files_app.models.rules import RIGHTS, key_of
from fileserver.names import composed
from fileserver.rights import MANAGE, Principal

GUEST = "guest"


class Line(NamedTuple):
    """A rule in words. ``reason``: why it does not decide; empty if it does."""

    text: str
    edit: int | None  # the key of its row
    reason: str


@require_safe
def check_access(request: HttpRequest) -> HttpResponse:
    require(request, MANAGE)
    snapshots.refresh()  # what has been saved a moment ago is what is asked about
    people = User.objects.filter(is_active=True).order_by("username")
    context: dict[str, Any] = {"people": people, "guest": GUEST, "name": request.GET.get("name", "")}
    whom = request.GET.get("who", "")
    context["who"] = whom
    if whom == GUEST:
        context |= _verdict(Principal(), "A guest", context["name"])
    elif person := people.filter(username=whom).first():
        who = Principal("user", person.username, key=person.pk)
        context |= _verdict(who, person.username, context["name"])
    elif whom:
        context["problem"] = "There is no open account of that name."
    return render(request, "check_access.html", context)


def _verdict(who: Principal, label: str, name: str) -> dict[str, Any]:
    name = composed(name.lstrip("/"))
    person = snapshots.newest.people.get(who.key)
    subject = person.subject if person else Subject()
    return {
        "label": label,
        "may_all": person is not None and person.is_superuser,
        # By the very function that the doors ask, so that this page cannot say anything else.
        "rights": [(right, may(who, right, name)) for right in RIGHTS],
        "server_rights": [(right, may(who, right, "")) for right in SERVER_RIGHTS],
        "lines": [_line(rule, why) for rule, why in snapshots.newest.rules.considered(subject, name)],
    }


def _line(rule: Rule, reason: str) -> Line:
    row = AccessRule.objects.filter(key=key_of(rule.folder), whom=rule.whom)
    if rule.whom == "group":
        row = row.filter(group=int(rule.who))
        whom = f"the group {Group.objects.get(pk=rule.who)}"
    elif rule.whom == "user":
        row = row.filter(user=int(rule.who))
        whom = str(User.objects.get(pk=rule.who))
    else:
        whom = AccessRule.Whom(rule.whom).label
    rights = ", ".join(right for right in RIGHTS if right in rule.rights) or "do nothing"
    found = row.first()
    return Line(f"/{rule.folder}: {whom} may {rights}", found.pk if found else None, reason)
