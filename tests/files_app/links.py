"""Links for tests, as their maker makes them."""

from typing import Any

from django.contrib.auth.models import User

from files_app.access.links import new_address, path_of
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule, Link
from files_app.models.rules import RIGHTS
from tests.files_app.conftest import Served


def maker(name: str = "ann") -> User:
    """Somebody who may do everything with all files, and share them."""
    user, is_new = User.objects.get_or_create(username=name)
    if is_new:
        AccessRule.objects.create(
            folder="", whom="user", user=user, **{f"can_{right}": True for right in RIGHTS}
        )
    return user


def make_link(served: Served, kind: str, target: str, **fields: Any) -> Link:
    link = Link(kind=kind, target=target, maker=fields.pop("maker", None) or maker(), **fields)
    link.identity = served.storage.identity(target)
    new_address(link)
    link.save()
    snapshots.refresh()
    return link


def url_of(link: Link) -> str:
    path = path_of(link)
    assert path is not None
    return path
