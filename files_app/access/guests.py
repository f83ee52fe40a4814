"""What guests, who have no account, may do in the served folder: the rule that ``start --lan`` sets."""

from files_app.models import AccessRule
from files_app.models.rules import RIGHTS
from fileserver.rights import Right

CHOICES: dict[str, tuple[Right, ...]] = {
    "none": (),
    "read": ("list", "get"),
    "drop": ("add",),
    "all": ("list", "get", "add", "replace", "delete"),
}
_SENTENCES: dict[tuple[Right, ...], str] = {
    CHOICES["none"]: "Guests may do nothing: everybody has to log in.",
    CHOICES["read"]: "Guests may list and download the files, without a login.",
    CHOICES["drop"]: "Guests may upload, without a login, and see nothing of what is there.",
    CHOICES["all"]: "Guests may list, download, upload, replace and delete the files, without a login.",
}
_RULES = AccessRule.objects.filter(whom=AccessRule.Whom.GUEST)


def let_guests(choice: str | None) -> None:
    """Set their rule for all that is served. ``None``: to ``read``, unless there is one."""
    if choice is None and _RULES.filter(key="").exists():
        return
    rights = CHOICES[choice or "read"]
    AccessRule.objects.update_or_create(
        key="", whom=AccessRule.Whom.GUEST, defaults={f"can_{right}": right in rights for right in RIGHTS}
    )


def what_guests_may() -> str:
    """A sentence or two for a person."""
    rule = _RULES.filter(key="").first()
    rights = tuple(rule.rights) if rule else ()
    said = _SENTENCES.get(rights) or f"Guests may do this without a login: {', '.join(rights)}."
    if others := _RULES.exclude(key="").count():
        said += (
            f" {others} {'folder has a rule of its' if others == 1 else 'folders have rules of their'} own."
        )
    return said
