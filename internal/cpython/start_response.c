//go:build cgo && !windows

/* start_response, and what comes with it: write() and early_hints. */
#include <string.h>

#include "exchange.h"

static PyObject *write_call(PyObject *self, PyObject *data)
{
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	PyObject *none = exchange->interpreter->objects.none;
	if (wsgi_check_bytes(data, "the argument of write()") != 0 ||
	    wsgi_exchange_enter(exchange, "write()") != 0)
		return NULL;
	py.Py_IncRef(data);
	int result = wsgi_response_chunk(exchange, data);
	py.Py_DecRef(data);
	wsgi_exchange_leave(exchange);
	if (result == WSGI_SENT_GONE)
		py.PyErr_SetString(exchange->interpreter->objects.client_gone,
				   "the client closed the connection");
	if (result != WSGI_SENT_OK)
		return NULL;
	py.Py_IncRef(none);
	return none;
}

static PyMethodDef write_method = {
	"write",
	(void (*)(void))write_call,
	METH_O,
	"write(data): send data now (PEP 3333 keeps it for old applications)",
};

/* raise_again raises the exception of an exc_info. CPython takes whatever it is
 * given for an exception, so what isn't one must not get there. */
static void raise_again(struct wsgi_exchange *exchange, PyObject *exc_info)
{
	PyObject *none = exchange->interpreter->objects.none;
	PyObject *value = py.PyTuple_GetItem(exc_info, 1), *trace = py.PyTuple_GetItem(exc_info, 2);
	if (value == none && py.PyTuple_GetItem(exc_info, 0) == none) {
		py.PyErr_SetString(py.PyExc_RuntimeError,
				   "start_response was called after the headers were sent");
		return;
	}
	if ((wsgi_type_flags(value) & Py_TPFLAGS_BASE_EXC_SUBCLASS) == 0) {
		py.PyErr_Format(py.PyExc_TypeError,
				"exc_info must be a tuple as of sys.exc_info(), not %R", exc_info);
		return;
	}
	PyObject *method = py.PyObject_GetAttrString(value, "with_traceback");
	PyObject *result =
		method != NULL ? py.PyObject_CallFunctionObjArgs(method, trace, NULL) : NULL;
	if (method != NULL)
		py.Py_DecRef(method);
	if (result == NULL)
		return; /* it isn't a traceback */
	py.Py_DecRef(result);
	py.Py_IncRef(value);
	if (trace != none)
		py.Py_IncRef(trace);
	py.PyErr_Restore(py.PyObject_Type(value), value, trace != none ? trace : NULL);
}

/* check_order decides what a call of start_response may do now, by PEP 3333's
 * rules on exc_info: 0, or -1 with an exception. */
static int check_order(struct wsgi_exchange *exchange, PyObject *exc_info)
{
	if (exc_info == NULL) {
		if (!exchange->started)
			return 0;
		py.PyErr_SetString(py.PyExc_RuntimeError,
				   "start_response was called a second time without exc_info");
		return -1;
	}
	if ((wsgi_type_flags(exc_info) & Py_TPFLAGS_TUPLE_SUBCLASS) == 0 ||
	    py.PyTuple_Size(exc_info) != 3) {
		py.PyErr_Format(py.PyExc_TypeError,
				"exc_info must be a tuple as of sys.exc_info(), not %R", exc_info);
		return -1;
	}
	if (!exchange->head_sent)
		return 0;
	raise_again(exchange, exc_info);
	return -1;
}

static PyObject *start_response(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
				PyObject *names)
{
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	PyObject *exc_info = count == 3 ? arguments[2] : NULL;
	Py_ssize_t named = names != NULL ? py.PyTuple_Size(names) : 0;
	if (count == 2 && named == 1) {
		const char *name = py.PyUnicode_AsUTF8AndSize(py.PyTuple_GetItem(names, 0), NULL);
		if (name == NULL)
			return NULL;
		if (strcmp(name, "exc_info") == 0) {
			exc_info = arguments[2];
			named = 0;
			count = 3;
		}
	}
	if (count < 2 || count > 3 || named != 0) {
		py.PyErr_SetString(py.PyExc_TypeError,
				   "start_response takes status, headers and exc_info=None");
		return NULL;
	}
	if (exchange->request == NULL) {
		py.PyErr_SetString(py.PyExc_RuntimeError,
				   "start_response was called after the request had ended");
		return NULL;
	}
	if (exc_info == exchange->interpreter->objects.none)
		exc_info = NULL;
	if (check_order(exchange, exc_info) != 0)
		return NULL;
	int status = wsgi_status_parse(arguments[0]);
	if (status < 0)
		return NULL;
	int64_t content_length;
	struct wsgi_record *head =
		wsgi_headers_pack(exchange->request, arguments[1], 0, &content_length);
	if (head == NULL)
		return NULL;
	if (exchange->head != NULL)
		wsgi_record_drop(exchange->head);
	head->number = status;
	exchange->head = head;
	exchange->status = status;
	exchange->content_length = content_length;
	exchange->bodiless = exchange->request->bodiless || status == 204 || status == 304;
	exchange->started = 1;
	return py.PyCFunction_NewEx(&write_method, self, NULL);
}

static PyMethodDef start_response_method = {
	"start_response",
	(void (*)(void))start_response,
	METH_FASTCALL | METH_KEYWORDS,
	"start_response(status, headers, exc_info=None): begin the response (PEP 3333)",
};

PyObject *wsgi_start_response_new(PyObject *exchange)
{
	return py.PyCFunction_NewEx(&start_response_method, exchange, NULL);
}

static PyObject *early_hints(PyObject *self, PyObject *headers)
{
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	PyObject *none = exchange->interpreter->objects.none;
	if (exchange->request == NULL) {
		py.PyErr_SetString(py.PyExc_RuntimeError,
				   "wsgi.early_hints was called after the request had ended");
		return NULL;
	}
	int64_t ignored;
	struct wsgi_record *record = wsgi_headers_pack(exchange->request, headers, 1, &ignored);
	if (record == NULL)
		return NULL;
	if (record->size == 0 || exchange->head_sent || !exchange->request->early_hints) {
		wsgi_record_drop(record);
	} else {
		wsgi_request_add(exchange->request, record);
		wsgi_request_post(exchange->request, 0);
	}
	py.Py_IncRef(none);
	return none;
}

static PyMethodDef early_hints_method = {
	"early_hints",
	(void (*)(void))early_hints,
	METH_O,
	"early_hints(headers): send a 103 with the Link headers among these",
};

PyObject *wsgi_early_hints_new(PyObject *exchange)
{
	return py.PyCFunction_NewEx(&early_hints_method, exchange, NULL);
}
