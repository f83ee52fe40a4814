"""``manage.py runserver``: the site alone, by the server class of the settings."""

from argparse import ArgumentParser
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.management.commands.runserver import Command as DaphneCommand
from django.conf import settings
from django.core.management.base import CommandError
from django.utils.module_loading import import_string

from files_app.access.network import require_encrypted, require_private
from files_app.hosting.lifeline import ends_with_supervisor, once, terminate
from files_app.hosting.neighbours import SITE_NAME
from files_app.terminal.options import require_certificate, require_free_port, require_migrated
from fileserver.net.address import address_text


class Command(DaphneCommand):
    help = "Runs the web site."
    default_addr = settings.WEB_HOST
    default_port = str(settings.WEB_PORT)
    server_cls = import_string(settings.WEB_SERVER)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(use_reloader=settings.DEBUG)

    def inner_run(self, *args: Any, **options: Any) -> None:
        require_migrated()
        require_private(self.addr, "WEB_HOST")
        require_encrypted(self.addr, "WEB_HOST")
        require_certificate()  # the file server tells what is not well with it
        # What the site says of itself, and whom it takes for local, follows from where it really listens.
        settings.WEB_HOST, settings.WEB_PORT = self.addr, int(self.port)
        require_free_port(self.addr, int(self.port), "WEB_PORT")
        if not options["use_asgi"]:
            if settings.TLS_CERT:
                raise CommandError("Django's own server speaks no TLS: leave --noasgi out, or TLS_CERT.")
            super().inner_run(*args, **options)
            return
        self.check(display_num_errors=True)
        server = self.server_cls(
            application=self.get_application(options),
            endpoints=build_endpoint_description_strings(host=self.addr, port=self.port),
            signal_handlers=not options["use_reloader"],
            action_logger=self.log_action,
            ready_callable=self.tell_address,
            server_name=SITE_NAME,
        )
        if options["use_reloader"]:  # then this is not the main thread, and nobody's child
            server.run()
            return
        # Once: Twisted, which stops on SIGTERM, complains if it is told to stop twice.
        with ends_with_supervisor(once(terminate)):
            server.run()

    def tell_address(self) -> None:
        scheme = "https" if settings.TLS_CERT else "http"
        self.stdout.write(f"listening on {scheme}://{address_text(self.addr, int(self.port))}/; Ctrl+C stops")
        self.stdout.flush()
