from django.urls import path

from . import views

app_name = "documents"
urlpatterns = [
    path("", views.list_documents, name="list"),
    path("upload", views.upload, name="upload"),
    path("<int:pk>/file", views.download, name="download"),
    path("<int:pk>/delete", views.delete, name="delete"),
]
