from django.conf import settings
from django.db import models
from django.db.models import Q


class DocumentQuerySet(models.QuerySet):
    def visible_to(self, user):
        """What everybody may see, and what is the user's own."""
        return self.filter(Q(published=True) | Q(owner=user.pk))


class Document(models.Model):
    title = models.CharField(max_length=120)
    file = models.FileField(upload_to="documents/%Y/%m")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="documents", editable=False
    )
    published = models.BooleanField(default=False, help_text="Everybody may download it.")
    uploaded = models.DateTimeField(auto_now_add=True)
    downloads = models.PositiveIntegerField(default=0, editable=False)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["-uploaded", "-pk"]

    def __str__(self):
        return self.title
