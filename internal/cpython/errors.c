//go:build cgo && !windows

/* wsgi.errors: text for the log, with the request's attributes. A record is
 * what was written up to a newline or a flush. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

enum { LOG_RECORD_LIMIT = 64 << 10 };

struct errors {
	PyObject *exchange;
};

void wsgi_log(struct wsgi_request *request, int level, const char *text, size_t size)
{
	struct wsgi_record *record = wsgi_record_new(request, WSGI_RECORD_LOG, size);
	if (record == NULL)
		return; /* no memory, nobody to tell */
	record->number = level;
	memcpy(record->data, text, size);
	wsgi_request_add(request, record);
}

void wsgi_log_format(struct wsgi_request *request, int level, const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	int size = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (size > 0)
		wsgi_log(request, level, text,
			 (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

static struct wsgi_exchange *exchange_of(PyObject *self)
{
	struct errors *errors = wsgi_object_data(self);
	return wsgi_exchange_of(errors->exchange);
}

void wsgi_errors_flush(struct wsgi_exchange *exchange)
{
	size_t size = exchange->log.size;
	while (size > 0 &&
	       (exchange->log.data[size - 1] == '\n' || exchange->log.data[size - 1] == '\r'))
		size--;
	if (size > 0) {
		wsgi_log(exchange->request, WSGI_LOG_APPLICATION, exchange->log.data, size);
		wsgi_request_post(exchange->request, 0);
	}
	exchange->log.size = 0;
}

/* write_late is for text that comes after the request: it has no place in its
 * log any more, but must not be lost either. */
static int write_late(PyObject *text)
{
	PyObject *stream = py.PySys_GetObject("stderr"); /* borrowed */
	if (stream == NULL)
		return 0;
	return py.PyFile_WriteObject(text, stream, Py_PRINT_RAW);
}

/* write_text adds text to the record in the making and emits it at a newline. */
static int write_text(struct wsgi_exchange *exchange, PyObject *text)
{
	if ((wsgi_type_flags(text) & Py_TPFLAGS_UNICODE_SUBCLASS) == 0) {
		PyObject *type = py.PyObject_Type(text);
		py.PyErr_Format(py.PyExc_TypeError, "wsgi.errors takes str, not %S", type);
		py.Py_DecRef(type);
		return -1;
	}
	if (exchange->request == NULL)
		return write_late(text);
	/* Lone surrogates can't be logged as UTF-8: they are shown escaped. */
	PyObject *bytes = py.PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (bytes == NULL)
		return -1;
	const char *data = py.PyBytes_AsString(bytes);
	size_t size = (size_t)py.PyBytes_Size(bytes);
	int result = wsgi_buffer_append(&exchange->log, data, size);
	if (result == 0 &&
	    ((size > 0 && data[size - 1] == '\n') || exchange->log.size >= LOG_RECORD_LIMIT))
		wsgi_errors_flush(exchange);
	py.Py_DecRef(bytes);
	/* An application that logs without end waits for the log. */
	if (result == 0 && !wsgi_request_has_room(exchange->request) &&
	    wsgi_exchange_enter(exchange, "wsgi.errors") == 0) {
		PyThreadState *state = py.PyEval_SaveThread();
		wsgi_request_wait_room(exchange->request);
		py.PyEval_RestoreThread(state);
		wsgi_exchange_leave(exchange);
	}
	return result;
}

static PyObject *none_of(struct wsgi_exchange *exchange)
{
	PyObject *none = exchange->interpreter->objects.none;
	py.Py_IncRef(none);
	return none;
}

static PyObject *errors_write(PyObject *self, PyObject *text)
{
	struct wsgi_exchange *exchange = exchange_of(self);
	return write_text(exchange, text) == 0 ? none_of(exchange) : NULL;
}

static PyObject *errors_writelines(PyObject *self, PyObject *lines)
{
	struct wsgi_exchange *exchange = exchange_of(self);
	PyObject *iterator = py.PyObject_GetIter(lines);
	if (iterator == NULL)
		return NULL;
	PyObject *line;
	int failed = 0;
	while (!failed && (line = py.PyIter_Next(iterator)) != NULL) {
		failed = write_text(exchange, line) != 0;
		py.Py_DecRef(line);
	}
	py.Py_DecRef(iterator);
	return failed || py.PyErr_Occurred() != NULL ? NULL : none_of(exchange);
}

static PyObject *errors_flush(PyObject *self, PyObject *unused)
{
	(void)unused;
	struct wsgi_exchange *exchange = exchange_of(self);
	if (exchange->request != NULL)
		wsgi_errors_flush(exchange);
	return none_of(exchange);
}

static void errors_dealloc(PyObject *self)
{
	struct errors *errors = wsgi_object_data(self);
	if (errors->exchange != NULL)
		py.Py_DecRef(errors->exchange);
	wsgi_object_free(self);
}

static PyMethodDef errors_methods[] = {
	{"write", (void (*)(void))errors_write, METH_O, "write(text): add text to the log"},
	{"writelines", (void (*)(void))errors_writelines, METH_O, "writelines(texts): write each"},
	{"flush", (void (*)(void))errors_flush, METH_NOARGS, "flush(): end the log record"},
	{NULL, NULL, 0, NULL},
};

PyObject *wsgi_errors_type(void)
{
	PyType_Slot slots[] = {
		{Py_tp_dealloc, (void *)errors_dealloc},
		{Py_tp_methods, errors_methods},
		{Py_tp_doc, (void *)"The log of a request (wsgi.errors)."},
		{0, NULL},
	};
	PyType_Spec spec = {"wsgi.Errors", py.object_size + (int)sizeof(struct errors), 0,
			    (unsigned)Py_TPFLAGS_DEFAULT, slots};
	return py.PyType_FromSpec(&spec);
}

PyObject *wsgi_errors_new(PyObject *exchange)
{
	struct wsgi_interpreter *interpreter = wsgi_exchange_of(exchange)->interpreter;
	PyObject *self = py.PyType_GenericAlloc(interpreter->objects.type_errors, 0);
	if (self != NULL) {
		struct errors *errors = wsgi_object_data(self);
		py.Py_IncRef(exchange);
		errors->exchange = exchange;
	}
	return self;
}
