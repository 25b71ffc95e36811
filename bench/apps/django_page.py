"""A Django page: two queries of the ORM and a template, in one file."""

import os
import sqlite3

import django
from django.conf import settings

DATABASE = os.environ.get("BENCH_DATABASE", ":memory:")

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "CONN_MAX_AGE": None}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=[],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a benchmark's",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"page.html": """<!DOCTYPE html>
<title>{{ total }} articles</title>
<ul>{% for article in articles %}
<li>{{ article.title|upper }}: {{ article.price|floatformat:2 }}{% if forloop.first %} (new){% endif %}{% endfor %}
</ul>
"""})]},
        }
    ],
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.urls import path  # noqa: E402


class Article(models.Model):
    title = models.CharField(max_length=100)
    price = models.FloatField()

    class Meta:
        app_label = "bench"
        db_table = "article"


def page(request):
    return render(request, "page.html", {"articles": list(Article.objects.order_by("-id")[:20]), "total": Article.objects.count()})


urlpatterns = [path("", page)]
application = get_wsgi_application()


def fill(file):
    """Makes the database: called once, before any server starts."""
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT NOT NULL, price REAL NOT NULL)")
        db.executemany("INSERT INTO article (title, price) VALUES (?, ?)", [("Article %d" % i, i * 1.25) for i in range(100)])


if __name__ == "__main__":
    import sys

    fill(sys.argv[1])
