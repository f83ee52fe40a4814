"""Where each URL leads; what they mean is in ``files_app.urls``."""

from django.contrib import admin
from django.urls import include, path

from files_app.views.accounts import AdminLogin

urlpatterns = [
    path("admin/login/", AdminLogin.as_view(), name="admin-login"),
    path("admin/", admin.site.urls),
    path("", include("files_app.urls")),
]

handler400 = "files_app.views.pages.bad_request"
handler403 = "files_app.views.pages.forbidden"
