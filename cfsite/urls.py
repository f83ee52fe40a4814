"""Where each URL leads; what they mean is in ``files_app.urls``."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("files_app.urls")),
]

handler400 = "files_app.views.pages.bad_request"
handler403 = "files_app.views.pages.forbidden"
