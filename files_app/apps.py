from django.apps import AppConfig


class FilesAppConfig(AppConfig):
    name = "files_app"
    verbose_name = "File server"

    def ready(self) -> None:
        from files_app import checks  # noqa: F401 - it registers itself
        from files_app.access.audit import watch_changes
        from files_app.access.snapshot import watch_models

        watch_models()
        watch_changes()
