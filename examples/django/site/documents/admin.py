from django.contrib import admin

from .models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["title", "owner", "published", "uploaded", "downloads"]
    list_filter = ["published", "uploaded"]
    search_fields = ["title"]

    def save_model(self, request, document, form, change):
        if not change:
            document.owner = request.user
        super().save_model(request, document, form, change)
