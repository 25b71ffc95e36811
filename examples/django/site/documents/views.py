from pathlib import PurePath

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import FileResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .forms import DocumentForm
from .models import Document


@require_safe
def list_documents(request):
    documents = Document.objects.visible_to(request.user).select_related("owner")
    return render(
        request,
        "documents/list.html",
        {"documents": documents[:50], "recent": request.session.get("recent", [])},
    )


@require_http_methods(["GET", "POST"])
@login_required
def upload(request):
    form = DocumentForm(
        request.POST or None, request.FILES or None, instance=Document(owner=request.user)
    )
    if request.method == "POST" and form.is_valid():
        document = form.save()
        messages.success(request, f"{document.title} is uploaded.")
        return redirect("documents:list")
    return render(request, "documents/upload.html", {"form": form})


@require_safe
def download(request, pk):
    document = get_object_or_404(Document.objects.visible_to(request.user), pk=pk)
    Document.objects.filter(pk=pk).update(downloads=F("downloads") + 1)
    recent = [title for title in request.session.get("recent", []) if title != document.title]
    request.session["recent"] = [document.title, *recent[:4]]
    # A file of Python's own, and not document.file.open(): the server sends it
    # without Python, and the worker thread is free at once.
    return FileResponse(
        open(document.file.path, "rb"),
        as_attachment=True,
        filename=PurePath(document.file.name).name,
    )


@require_POST
@login_required
def delete(request, pk):
    document = get_object_or_404(request.user.documents, pk=pk)
    document.delete()
    document.file.delete(save=False)
    messages.success(request, f"{document.title} is deleted.")
    return redirect("documents:list")
