"""What two stock Django projects get beside what startproject writes: the same
module, pages, in both."""

import logging
import os
import sys
import warnings

import own_library
from django.conf import settings
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.utils import timezone


def state(request):
    try:
        warnings.warn("careful", RuntimeWarning)
        warned = "ignored"
    except RuntimeWarning:
        warned = "raised"
    User.objects.get_or_create(username=os.environ["PROJECT"])
    return JsonResponse(
        {
            "settings": os.environ["DJANGO_SETTINGS_MODULE"] + " in " + os.path.basename(settings.BASE_DIR),
            "environ": os.environ["PROJECT"],
            "library": own_library.NAME,
            "path": [os.path.basename(os.path.dirname(p)) for p in sys.path if os.path.basename(p) == "own"],
            "logging": logging.getLevelName(logging.getLogger().level),
            "warnings": warned,
            "zone": str(timezone.get_current_timezone()),
            "users": [user.username for user in User.objects.all()],
        }
    )
