"""The URLs of the tests' Django project: Django's own admin. A site of the scenarios has others."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path

urlpatterns: list[Any] = [path("admin/", admin.site.urls)]
