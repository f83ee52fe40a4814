"""``manage.py token``: makes, lists and revokes what commands and scripts show in place of a password."""

import os
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from files_app.access.audit import Action, record
from files_app.access.tokens import new_token, revoke
from files_app.database import as_command_errors
from files_app.models import Token
from files_app.models.tokens import TOKEN_RIGHTS
from files_app.terminal.options import positive, require_migrated


class Command(BaseCommand):
    help = "Makes, lists and revokes tokens: for commands and scripts, in place of a password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["make", "list", "revoke"])
        parser.add_argument("lookup", nargs="?", help="with revoke: the eight characters of the list")
        parser.add_argument("--user", help="with make: whose it is")
        parser.add_argument("--name", default="", help="with make: what it is for")
        parser.add_argument(
            "--rights", default="list,get", help=f"with make, of {','.join(TOKEN_RIGHTS)} (%(default)s)"
        )
        parser.add_argument("--folder", default="", help="with make: for that folder alone")
        parser.add_argument(
            "--days", type=positive, default="90", help="with make: good so long (%(default)s)"
        )
        parser.add_argument("--to", metavar="FILE", help="with make: into a new file that only you can read")

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrated()
        with as_command_errors():
            getattr(self, options["action"])(options)

    def make(self, options: dict[str, Any]) -> None:
        name = options["user"] or ""
        # What cannot be printed is in no name, and may be nothing that a database can be asked for.
        known = (
            User.objects.filter(username=name, is_active=True) if name.isprintable() else User.objects.none()
        )
        owner = known.first()
        if owner is None:
            raise CommandError(f"There is no open account {name!r}: say whose it is with --user.")
        rights = [word.strip() for word in options["rights"].split(",") if word.strip()]
        if unknown := set(rights) - set(TOKEN_RIGHTS):
            raise CommandError(f"{min(unknown)} is none of {', '.join(TOKEN_RIGHTS)}.")
        file = _new_file(options["to"]) if options["to"] else None
        if file is None and not self.stdout.isatty():
            raise CommandError("Give --to FILE: what is printed here may end up in a log.")
        ends = timezone.now() + timedelta(days=options["days"])
        token, text = new_token(owner, options["name"], rights, options["folder"], ends)
        record(Action.TOKEN_MADE, str(token))
        if file is not None:
            os.write(file, f"{text}\n".encode())
            os.close(file)
            self.stdout.write(f"{token}: it is in {options['to']}.")
        else:
            self.stdout.write(
                f"\n  {text}\n\n  It is shown this once. Put it into CFS_TOKEN, or a file for you alone."
            )

    def list(self, options: dict[str, Any]) -> None:
        for token in Token.objects.select_related("owner").filter(revoked_at=None):
            ends = f"until {token.expires_at:%Y-%m-%d}" if token.expires_at else "without end"
            used = f"used {token.used_at:%Y-%m-%d} from {token.used_from}" if token.used_at else "never used"
            where = f" in /{token.folder}" if token.folder else ""
            words = (token.lookup, str(token.owner), f"{token.rights}{where}", ends, used, token.name)
            self.stdout.write("\t".join(words))

    def revoke(self, options: dict[str, Any]) -> None:
        token = Token.objects.filter(lookup=options["lookup"] or "", revoked_at=None).first()
        if token is None:
            raise CommandError("There is no such token: give the eight characters that the list shows.")
        revoke(token)
        record(Action.TOKEN_REVOKED, str(token))
        self.stdout.write(f"{token} is revoked; what runs with it ends within seconds.")


def _new_file(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"{path} cannot be made: {error.strerror}. No token was made.") from None
