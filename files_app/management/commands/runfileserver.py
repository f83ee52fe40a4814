"""``manage.py runfileserver``: the file server alone, with history and catalogue."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from files_app.access.network import require_encrypted, require_private
from files_app.hosting.assembly import CannotListen, CannotServe, Plan, running
from files_app.hosting.console import log
from files_app.hosting.ending import Ending, ends_on_signal
from files_app.hosting.lifeline import ends_with_supervisor
from files_app.hosting.process import prepare_for
from files_app.terminal.options import (
    non_negative,
    port_number,
    positive,
    require_certificate,
    require_migrated,
    require_nothing_secret,
    taken,
    worker_model,
)
from fileserver.net.address import address_text
from fileserver.pacing import SLOW_MOTION, Pace
from fileserver.workers import MODELS


class Command(BaseCommand):
    help = "Runs the file server: one thread for each client, over TCP."
    requires_system_checks: list[str] = []  # of the folder that --files names, not of the setting

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.SERVER_HOST, help="address (default: %(default)s)")
        parser.add_argument(
            "--port", type=port_number, default=str(settings.SERVER_PORT), help="(default: %(default)s)"
        )
        parser.add_argument(
            "--files", default=settings.FILES_DIRECTORY, help="the folder (default: %(default)s)"
        )
        parser.add_argument(
            "--max-clients", type=positive, default=str(settings.MAX_CLIENTS), help="(default: %(default)s)"
        )
        parser.add_argument(
            "--buffer-size",
            type=positive,
            default=str(settings.BUFFER_SIZE),
            help="bytes in a chunk, when paced",
        )
        parser.add_argument(
            "--sleep-time",
            type=non_negative,
            default=str(settings.SLEEP_TIME),
            help="seconds between two chunks; 0, the default, is full speed",
        )
        parser.add_argument(
            "--slow-motion", action="store_true", help=f"the classroom pace for everybody: {SLOW_MOTION}"
        )
        parser.add_argument(
            "--worker",
            type=worker_model,
            default=settings.WORKER_MODEL,
            help=f"which thread serves which client: {', '.join(MODELS)} (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrated()
        require_private(options["host"], "SERVER_HOST")
        require_encrypted(options["host"], "SERVER_HOST")
        for warning in require_certificate():
            log.warning("%s", warning)
        require_nothing_secret(options["files"])
        prepare_for(options["max_clients"])
        plan = plan_of(options)
        try:
            with ends_on_signal() as ending, ends_with_supervisor(ending.ask):
                serve(plan, ending)
        except CannotServe as error:
            raise CommandError(str(error)) from None
        except CannotListen as failure:
            raise taken(plan.host, plan.port, "SERVER_PORT (or --port)", failure.error) from None


def serve(plan: Plan, ending: Ending) -> None:
    """Until ``ending`` is asked for."""
    with running(plan, ending.hurry_with) as server:
        log.info(
            "listening on %s%s, serving %s at %s; Ctrl+C stops",
            address_text(*server.address),
            " with TLS" if settings.TLS_CERT else "",
            plan.files,
            f"a pace of {plan.pace}" if plan.pace else "full speed",
        )
        ending.wait()
        log.info("shutting down; running transfers have %g s to end", server.limits.grace)


def plan_of(options: dict[str, Any]) -> Plan:
    named = {name: options[name] for name in ("host", "port", "files", "max_clients", "worker")}
    return Plan(**named, pace=pace_of(options))


def pace_of(options: dict[str, Any]) -> Pace | None:
    if options["slow_motion"]:
        return SLOW_MOTION
    return Pace(options["buffer_size"], options["sleep_time"]) if options["sleep_time"] else None
