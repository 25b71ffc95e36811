//go:build cgo && !windows

/* What bootstrap.py tells of extension modules that refuse their interpreter:
 * their names, as log records of a request of their own, which serves the whole
 * pool. So they reach Go from any thread, at any time. */
#include "exchange.h"

struct refusals {
	struct wsgi_request *notices; /* NULL once the interpreter's application is gone */
};

static PyObject *refusals_add(PyObject *self, PyObject *name)
{
	struct refusals *refusals = wsgi_object_data(self);
	PyObject *bytes = py.PyUnicode_AsEncodedString(name, "utf-8", "backslashreplace");
	if (bytes == NULL)
		return NULL;
	if (refusals->notices != NULL) {
		wsgi_log(refusals->notices, WSGI_LOG_WARNING, py.PyBytes_AsString(bytes),
			 (size_t)py.PyBytes_Size(bytes));
		wsgi_request_post(refusals->notices, 0);
	}
	py.Py_DecRef(bytes);
	return py.Py_BuildValue("");
}

static PyMethodDef refusals_methods[] = {
	{"add", (void (*)(void))refusals_add, METH_O, "add(name): a module has refused"},
	{NULL, NULL, 0, NULL},
};

PyObject *wsgi_refusals_new(struct wsgi_interpreter *interpreter)
{
	PyType_Slot slots[] = {
		{Py_tp_dealloc, (void *)wsgi_object_free},
		{Py_tp_methods, refusals_methods},
		{Py_tp_doc, (void *)"Takes the names of extension modules that refuse."},
		{0, NULL},
	};
	PyType_Spec spec = {"wsgi.Refusals", py.object_size + (int)sizeof(struct refusals), 0,
			    (unsigned)Py_TPFLAGS_DEFAULT, slots};
	PyObject *type = py.PyType_FromSpec(&spec);
	if (type == NULL)
		return NULL;
	PyObject *self = py.PyType_GenericAlloc(type, 0);
	py.Py_DecRef(type); /* its instance has a reference of its own */
	if (self != NULL) {
		struct refusals *refusals = wsgi_object_data(self);
		refusals->notices = interpreter->notices;
	}
	return self;
}

void wsgi_refusals_end(PyObject *self)
{
	struct refusals *refusals = wsgi_object_data(self);
	refusals->notices = NULL;
}
