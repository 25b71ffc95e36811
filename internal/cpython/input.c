//go:build cgo && !windows

/* wsgi.input: a file-like object over a body that was read before the request
 * started, or over the ring that Go fills while it runs. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

struct input {
	PyObject *exchange;
};

static struct wsgi_exchange *exchange_of(PyObject *self)
{
	struct input *input = wsgi_object_data(self);
	return wsgi_exchange_of(input->exchange);
}

/* peek returns what can be had without waiting, in one piece. */
static const char *peek(struct wsgi_exchange *exchange, size_t *size)
{
	struct wsgi_request *request = exchange->request;
	if (!request->streamed) {
		*size = request->body_size - exchange->body_read;
		return request->body + exchange->body_read;
	}
	uint64_t read = request->ring_read, written = LOAD(&request->ring_written);
	size_t start = (size_t)(read % request->ring_capacity);
	size_t available = (size_t)(written - read);
	size_t to_edge = request->ring_capacity - start;
	*size = available < to_edge ? available : to_edge;
	return request->ring + start;
}

static void consume(struct wsgi_exchange *exchange, size_t size)
{
	struct wsgi_request *request = exchange->request;
	exchange->input_consumed += (int64_t)size;
	if (!request->streamed) {
		exchange->body_read += size;
		return;
	}
	STORE(&request->ring_read, request->ring_read + size);
	/* Half a ring at a time, so that a wake-up is worth its cost. */
	uint64_t used = LOAD(&request->ring_written) - request->ring_read;
	if (used <= request->ring_capacity / 2 && LOAD(&request->reader_waiting) &&
	    EXCHANGE(&request->reader_waiting, 0))
		wsgi_request_post(request, 0);
}

static void raise_end(struct wsgi_exchange *exchange, uint32_t end)
{
	const char *reason = "the client closed the connection before the end of the request body";
	if (end == WSGI_INPUT_TOO_BIG)
		reason = "the request body is larger than the server allows";
	else if (end == WSGI_INPUT_TIMEOUT)
		reason = "the request body took longer than the server allows";
	py.PyErr_SetString(exchange->interpreter->objects.client_gone, reason);
}

/* fill waits until peek has something: 1, or 0 at the end of the body, or -1
 * with an exception where the body ends early. */
static int fill(struct wsgi_exchange *exchange)
{
	struct wsgi_request *request = exchange->request;
	size_t size;
	for (;;) {
		/* The end before the last look: what came before it counts. */
		uint32_t end = LOAD(&request->input_end);
		peek(exchange, &size);
		if (size > 0)
			return 1;
		if (!request->streamed || end == WSGI_INPUT_EOF)
			return 0;
		if (end != WSGI_INPUT_OPEN) {
			raise_end(exchange, end);
			return -1;
		}
		if (wsgi_request_is_gone(request)) {
			raise_end(exchange, WSGI_INPUT_CUT);
			return -1;
		}
		if (!EXCHANGE(&request->input_wanted, 1) || request->on_demand)
			wsgi_request_post(request, 0);
		PyThreadState *state = py.PyEval_SaveThread();
		wsgi_request_wait_input(request);
		py.PyEval_RestoreThread(state);
	}
}

static PyObject *empty(struct wsgi_exchange *exchange)
{
	PyObject *bytes = exchange->interpreter->objects.empty_bytes;
	py.Py_IncRef(bytes);
	return bytes;
}

/* remaining is what is left of a body of known length, or -1. */
static int64_t remaining(struct wsgi_exchange *exchange)
{
	struct wsgi_request *request = exchange->request;
	if (!request->streamed)
		return (int64_t)(request->body_size - exchange->body_read);
	if (request->content_length < 0)
		return -1;
	return request->content_length - exchange->input_consumed;
}

/* read_known reads exactly size bytes, which the body is known to have. */
static PyObject *read_known(struct wsgi_exchange *exchange, size_t size)
{
	PyObject *bytes = py.PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (bytes == NULL)
		return NULL;
	char *to = py.PyBytes_AsString(bytes);
	for (size_t done = 0; done < size;) {
		int state = fill(exchange);
		if (state <= 0) {
			if (state == 0)
				raise_end(exchange, WSGI_INPUT_CUT);
			py.Py_DecRef(bytes);
			return NULL;
		}
		size_t available;
		const char *from = peek(exchange, &available);
		if (available > size - done)
			available = size - done;
		memcpy(to + done, from, available);
		consume(exchange, available);
		done += available;
	}
	return bytes;
}

/* read_until reads at most limit bytes, up to the end of the body or, where
 * line is set, up to and with the next newline. */
static PyObject *read_until(struct wsgi_exchange *exchange, size_t limit, int line)
{
	struct wsgi_buffer buffer = {0};
	PyObject *bytes = NULL;
	for (int found = 0; !found && buffer.size < limit;) {
		int state = fill(exchange);
		if (state < 0) {
			free(buffer.data);
			return NULL;
		}
		if (state == 0)
			break;
		size_t available;
		const char *from = peek(exchange, &available);
		if (available > limit - buffer.size)
			available = limit - buffer.size;
		const char *newline = line ? memchr(from, '\n', available) : NULL;
		if (newline != NULL) {
			found = 1;
			available = (size_t)(newline - from) + 1;
		}
		if (buffer.size == 0 && (found || available == limit)) {
			/* All of it in one piece: no copy in between. */
			bytes = py.PyBytes_FromStringAndSize(from, (Py_ssize_t)available);
			if (bytes != NULL)
				consume(exchange, available);
			return bytes;
		}
		if (wsgi_buffer_append(&buffer, from, available) != 0) {
			free(buffer.data);
			return NULL;
		}
		consume(exchange, available);
	}
	if (buffer.size == 0)
		bytes = empty(exchange);
	else
		bytes = py.PyBytes_FromStringAndSize(buffer.data, (Py_ssize_t)buffer.size);
	free(buffer.data);
	return bytes;
}

/* parse_size reads an optional size; None, a negative one and none at all mean
 * no limit. */
static int parse_size(PyObject *const *arguments, Py_ssize_t count, const char *method,
		      PyObject *none, size_t *size)
{
	*size = SIZE_MAX;
	if (count > 1) {
		py.PyErr_Format(py.PyExc_TypeError,
				"wsgi.input.%s() takes at most 1 argument (%zd given)", method,
				count);
		return -1;
	}
	if (count == 0 || arguments[0] == none)
		return 0;
	Py_ssize_t value = py.PyNumber_AsSsize_t(arguments[0], NULL);
	if (value == -1 && py.PyErr_Occurred() != NULL)
		return -1;
	if (value >= 0)
		*size = (size_t)value;
	return 0;
}

static PyObject *input_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct wsgi_exchange *exchange = exchange_of(self);
	size_t size;
	if (parse_size(arguments, count, "read", exchange->interpreter->objects.none, &size) != 0 ||
	    wsgi_exchange_enter(exchange, "wsgi.input") != 0)
		return NULL;
	int64_t left = remaining(exchange);
	PyObject *bytes;
	if (left >= 0 && (uint64_t)left < size)
		size = (size_t)left;
	if (size == 0)
		/* At the end of a body of known length; of one that was cut short,
		 * read_known never gets here. */
		bytes = empty(exchange);
	else if (left >= 0)
		bytes = read_known(exchange, size);
	else
		bytes = read_until(exchange, size, 0);
	wsgi_exchange_leave(exchange);
	return bytes;
}

static PyObject *read_line(struct wsgi_exchange *exchange, size_t size)
{
	if (wsgi_exchange_enter(exchange, "wsgi.input") != 0)
		return NULL;
	PyObject *bytes = read_until(exchange, size, 1);
	wsgi_exchange_leave(exchange);
	return bytes;
}

static PyObject *input_readline(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct wsgi_exchange *exchange = exchange_of(self);
	size_t size;
	if (parse_size(arguments, count, "readline", exchange->interpreter->objects.none, &size) !=
	    0)
		return NULL;
	return read_line(exchange, size);
}

static PyObject *input_readlines(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct wsgi_exchange *exchange = exchange_of(self);
	size_t hint;
	if (parse_size(arguments, count, "readlines", exchange->interpreter->objects.none, &hint) !=
	    0)
		return NULL;
	if (hint == 0) /* as for files: no limit */
		hint = SIZE_MAX;
	PyObject *lines = py.PyList_New(0);
	for (size_t total = 0; lines != NULL && total < hint;) {
		PyObject *line = read_line(exchange, SIZE_MAX);
		Py_ssize_t size = line != NULL ? py.PyBytes_Size(line) : -1;
		if (size > 0 && py.PyList_Append(lines, line) != 0)
			size = -1;
		if (line != NULL)
			py.Py_DecRef(line);
		if (size < 0) {
			py.Py_DecRef(lines);
			return NULL;
		}
		if (size == 0)
			break;
		total += (size_t)size;
	}
	return lines;
}

static PyObject *input_iter(PyObject *self)
{
	py.Py_IncRef(self);
	return self;
}

static PyObject *input_next(PyObject *self)
{
	PyObject *line = read_line(exchange_of(self), SIZE_MAX);
	if (line != NULL && py.PyBytes_Size(line) == 0) {
		py.Py_DecRef(line);
		return NULL; /* without an exception: the end */
	}
	return line;
}

static void input_dealloc(PyObject *self)
{
	struct input *input = wsgi_object_data(self);
	if (input->exchange != NULL)
		py.Py_DecRef(input->exchange);
	wsgi_object_free(self);
}

#define METHOD(name, function, doc) {name, (void (*)(void))(function), METH_FASTCALL, doc}

static PyMethodDef input_methods[] = {
	METHOD("read", input_read,
	       "read([size]): size bytes of the request body, or all that is left"),
	METHOD("readline", input_readline,
	       "readline([size]): the next line, at most size bytes of it"),
	METHOD("readlines", input_readlines, "readlines([hint]): the lines that are left"),
	{NULL, NULL, 0, NULL},
};

PyObject *wsgi_input_type(void)
{
	PyType_Slot slots[] = {
		{Py_tp_dealloc, (void *)input_dealloc},
		{Py_tp_iter, (void *)input_iter},
		{Py_tp_iternext, (void *)input_next},
		{Py_tp_methods, input_methods},
		{Py_tp_doc, (void *)"The body of a request (wsgi.input)."},
		{0, NULL},
	};
	PyType_Spec spec = {"wsgi.Input", py.object_size + (int)sizeof(struct input), 0,
			    (unsigned)Py_TPFLAGS_DEFAULT, slots};
	return py.PyType_FromSpec(&spec);
}

PyObject *wsgi_input_new(PyObject *exchange)
{
	struct wsgi_interpreter *interpreter = wsgi_exchange_of(exchange)->interpreter;
	PyObject *self = py.PyType_GenericAlloc(interpreter->objects.type_input, 0);
	if (self != NULL) {
		struct input *input = wsgi_object_data(self);
		py.Py_IncRef(exchange);
		input->exchange = exchange;
	}
	return self;
}
