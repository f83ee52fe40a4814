"""What matters to who may do what leaves a row that nobody changes, and one line in the log.

Neither ever holds a secret: a token or a link is named by the beginning that is shown in lists, too.
"""

import logging
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.http import HttpRequest

from files_app.access import tokens
from files_app.access.principals import principal_of, visitor
from files_app.models import AccessRule
from files_app.models.audit import AuditEvent
from fileserver.names import shown
from fileserver.rights import Principal

log = logging.getLogger(__name__)

Action = AuditEvent.Action

# Who asks for the page that runs now: a model that is saved knows no request.
asking: ContextVar[Principal | None] = ContextVar("asking", default=None)


def record(action: Action, about: str = "", by: Principal | None = None) -> None:
    """Write the row and the line. ``by``: whoever asks for the page that runs, or a program if none does.

    ``about`` may be anybody's text. Raises ``DatabaseError``: what cannot be recorded is not done.
    """
    by = by or asking.get()
    AuditEvent.objects.create(
        action=action,
        about=about.replace("\0", "\N{REPLACEMENT CHARACTER}")[:1024],  # PostgreSQL knows no text with a NUL
        by=((by and by.user) or "")[:150],
        principal=str(by) if by else "",
        address=by.address[:64] if by else "",
    )
    log.info("%s: %s, by %s", action.label, shown(about), _who(by))


arecord = sync_to_async(record, thread_sensitive=False)


def write_token_uses() -> None:
    """Write when tokens were last used; one that is used from another address than before is worth a row."""
    for token in tokens.write_uses():
        by = Principal("token", token.owner.get_username(), token.used_from, key=token.pk)
        record(Action.TOKEN_USED, str(token), by)


def _who(by: Principal | None) -> str:
    if by is None:
        return "a program on this machine"
    return f"{shown(by.user) if by.user else f'a {by.kind}'} from {by.address or 'an unknown address'}"


# --- logins


def _logged_in(request: HttpRequest | None, user: Any, **more: Any) -> None:
    record(Action.LOGIN, user.get_username(), _by(request, user))


def _logged_out(request: HttpRequest | None, user: Any, **more: Any) -> None:
    if user is not None:
        record(Action.LOGOUT, user.get_username(), _by(request, user))


def _login_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **more: Any) -> None:
    record(Action.LOGIN_FAILED, str(credentials.get("username", "")), _by(request))


def _by(request: HttpRequest | None, user: Any = None) -> Principal | None:
    if request is None:
        return None
    return visitor(request, user) if user is not None else principal_of(request)


# --- people, groups and rules

CHANGES = {
    "accessrule": (Action.RULE, Action.RULE_DELETED),
    "user": (Action.PERSON, Action.PERSON_DELETED),
    "group": (Action.GROUP, Action.GROUP_DELETED),
}


def _saved(sender: Any, instance: Any, update_fields: Any = None, raw: bool = False, **more: Any) -> None:
    if raw or (update_fields is not None and set(update_fields) == {"last_login"}):  # written at each login
        return
    record(CHANGES[sender._meta.model_name][0], str(instance))


def _deleted(sender: Any, instance: Any, **more: Any) -> None:
    record(CHANGES[sender._meta.model_name][1], str(instance))


def _members_changed(instance: Any, action: str, pk_set: set[int] | None, **more: Any) -> None:
    # Of a permission nobody makes such a change from its own side.
    if instance._meta.model_name in CHANGES and (
        action == "post_clear" or (pk_set and action[:5] == "post_")
    ):
        record(CHANGES[instance._meta.model_name][0], str(instance))


def watch_changes() -> None:
    """Have logins recorded, and each change of people, groups and rules."""
    user = get_user_model()
    user_logged_in.connect(_logged_in, dispatch_uid="audit of logins")
    user_logged_out.connect(_logged_out, dispatch_uid="audit of logouts")
    user_login_failed.connect(_login_failed, dispatch_uid="audit of failed logins")
    for model in (AccessRule, Group, user):
        post_save.connect(_saved, sender=model, dispatch_uid=f"audit of {model.__name__}")
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"audit of lost {model.__name__}")
    for through in (user.groups.through, user.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(_members_changed, sender=through, dispatch_uid=f"audit by {through.__name__}")
