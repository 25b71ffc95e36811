//go:build cgo && !windows

/* The ways in which a response's body goes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange.h"

enum {
	PIECE = 256 << 10,         /* of a large chunk, so that the output stays bounded */
	COPY_UNLOCKED = 256 << 10, /* larger copies are made without the GIL */
};

int wsgi_response_head(struct wsgi_exchange *exchange, int64_t content_length)
{
	if (exchange->head_sent)
		return WSGI_SENT_OK;
	if (!exchange->started) {
		py.PyErr_SetString(
			py.PyExc_RuntimeError,
			"the application returned a response without calling start_response");
		return WSGI_SENT_FAILED;
	}
	struct wsgi_record *head = exchange->head;
	exchange->head = NULL;
	exchange->head_sent = 1;
	if (exchange->content_length < 0 && content_length >= 0 && exchange->status != 204 &&
	    exchange->status != 304) {
		head->length = content_length;
		exchange->content_length = content_length;
	}
	head->more = !exchange->bodiless; /* a body or the end follows */
	wsgi_request_add(exchange->request, head);
	return WSGI_SENT_OK;
}

/* allowed cuts a chunk to what the Content-Length leaves room for. */
static size_t allowed(struct wsgi_exchange *exchange, size_t size)
{
	if (exchange->bodiless)
		return 0;
	int64_t left = exchange->content_length - exchange->sent;
	if (exchange->content_length < 0 || (uint64_t)left >= size)
		return size;
	if (!exchange->excess_logged) {
		exchange->excess_logged = 1;
		wsgi_log_format(
			exchange->request, WSGI_LOG_WARNING,
			"the application produced more than its Content-Length of %lld bytes: "
			"the rest is cut",
			(long long)exchange->content_length);
	}
	return (size_t)left;
}

/* is_whole reports whether the client has been sent all that its headers say. */
static int is_whole(struct wsgi_exchange *exchange)
{
	return exchange->head_sent && exchange->content_length >= 0 &&
	       exchange->sent >= exchange->content_length;
}

/* is_near_end reports whether the client has all of its answer, and the request is
 * likely to be over as soon as Go would be awake. */
static int is_near_end(struct wsgi_exchange *exchange)
{
	return is_whole(exchange) && exchange->request->quiet_until != 0 &&
	       wsgi_now() < exchange->request->quiet_until;
}

/* append adds a piece of body to the output; the bytes must stay valid while
 * the GIL is released. */
static int append(struct wsgi_exchange *exchange, const char *data, size_t size, int more)
{
	struct wsgi_record *record = wsgi_record_new(exchange->request, WSGI_RECORD_BODY, size);
	if (record == NULL) {
		py.PyErr_NoMemory();
		return WSGI_SENT_FAILED;
	}
	if (size >= COPY_UNLOCKED) {
		PyThreadState *state = py.PyEval_SaveThread();
		memcpy(record->data, data, size);
		py.PyEval_RestoreThread(state);
	} else {
		memcpy(record->data, data, size);
	}
	record->more = (uint32_t)more;
	wsgi_request_add(exchange->request, record);
	exchange->sent += (int64_t)size;
	return WSGI_SENT_OK;
}

/* wsgi_response_chunk sends one chunk: it is on its way when this returns, or waits
 * behind less than the output's limit. The caller holds a reference to it. */
int wsgi_response_chunk(struct wsgi_exchange *exchange, PyObject *chunk)
{
	size_t size = (size_t)py.PyBytes_Size(chunk);
	const char *data = py.PyBytes_AsString(chunk);
	int result = WSGI_SENT_OK;
	if (size == 0)
		return WSGI_SENT_OK; /* nothing may be sent before the first non-empty chunk */
	if ((result = wsgi_response_head(exchange, -1)) != WSGI_SENT_OK)
		return result;
	if (wsgi_request_is_gone(exchange->request))
		return WSGI_SENT_GONE; /* also where nothing more is to be sent */
	size = allowed(exchange, size);
	if (size == 0)
		wsgi_request_post(exchange->request, 0); /* the head at least is on its way */
	while (size > 0 && result == WSGI_SENT_OK) {
		size_t piece = size < PIECE ? size : PIECE;
		if (!wsgi_request_has_room(exchange->request)) {
			PyThreadState *state = py.PyEval_SaveThread();
			wsgi_request_wait_room(exchange->request);
			py.PyEval_RestoreThread(state);
		}
		if (wsgi_request_is_gone(exchange->request))
			return WSGI_SENT_GONE;
		result = append(exchange, data, piece, 0);
		int near_end = is_near_end(exchange);
		STORE(&exchange->request->near_end, (uint32_t)near_end);
		wsgi_request_post(exchange->request, near_end);
		data += piece;
		size -= piece;
	}
	return result;
}

/* wsgi_check_bytes raises a TypeError for a chunk that isn't bytes. */
int wsgi_check_bytes(PyObject *chunk, const char *what)
{
	unsigned long flags = wsgi_type_flags(chunk);
	if (flags & Py_TPFLAGS_BYTES_SUBCLASS)
		return 0;
	PyObject *type = py.PyObject_Type(chunk);
	const char *advice = flags & Py_TPFLAGS_UNICODE_SUBCLASS
				     ? ": encode it, for example with .encode('utf-8')"
				     : "";
	PyObject *name = py.PyObject_GetAttrString(type, "__name__");
	py.Py_DecRef(type);
	if (name == NULL)
		return -1;
	py.PyErr_Format(py.PyExc_TypeError, "%s must be bytes, not %S%s", what, name, advice);
	py.Py_DecRef(name);
	return -1;
}

/* list_total checks the items of a tuple and adds up their sizes. */
static int list_total(PyObject *items, Py_ssize_t count, int64_t *total)
{
	*total = 0;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *item = py.PyTuple_GetItem(items, i);
		if (wsgi_check_bytes(item, "an item of the list that the application returned") !=
		    0)
			return -1;
		*total += py.PyBytes_Size(item);
	}
	return 0;
}

int wsgi_response_list(struct wsgi_exchange *exchange, PyObject *result)
{
	/* A tuple of its own, which nobody can change while the GIL is released. */
	PyObject *items = result;
	if (wsgi_type_flags(result) & Py_TPFLAGS_LIST_SUBCLASS)
		items = py.PyList_AsTuple(result);
	else
		py.Py_IncRef(items);
	if (items == NULL)
		return WSGI_SENT_FAILED;
	Py_ssize_t count = py.PyTuple_Size(items);
	int64_t total;
	int sent = WSGI_SENT_FAILED;
	if (list_total(items, count, &total) == 0) {
		/* The length of a HEAD's body isn't known from leaving it out. */
		int known = !(exchange->request->bodiless && total == 0);
		sent = wsgi_response_head(exchange, known ? total : -1);
	}
	for (Py_ssize_t i = 0; i < count && sent == WSGI_SENT_OK; i++) {
		PyObject *item = py.PyTuple_GetItem(items, i);
		size_t size = (size_t)py.PyBytes_Size(item);
		if (size > 0)
			size = allowed(exchange, size);
		if (size > 0)
			sent = append(exchange, py.PyBytes_AsString(item), size, 1);
	}
	py.Py_DecRef(items);
	return sent;
}

int wsgi_response_iterable(struct wsgi_exchange *exchange, PyObject *result)
{
	PyObject *iterator = py.PyObject_GetIter(result);
	if (iterator == NULL)
		return WSGI_SENT_FAILED;
	int sent = WSGI_SENT_OK;
	while (sent == WSGI_SENT_OK) {
		if (wsgi_request_is_gone(exchange->request)) {
			/* One that has all that was promised it has not left too soon. */
			if (!is_whole(exchange))
				sent = WSGI_SENT_GONE;
			break;
		}
		PyObject *chunk = py.PyIter_Next(iterator);
		if (chunk == NULL) {
			if (py.PyErr_Occurred() != NULL)
				sent = WSGI_SENT_FAILED;
			break;
		}
		if (wsgi_check_bytes(chunk, "what the application yields") != 0)
			sent = WSGI_SENT_FAILED;
		else
			sent = wsgi_response_chunk(exchange, chunk);
		py.Py_DecRef(chunk);
		/* Nobody sees the rest of a body that isn't sent, and what lies
		 * behind the Content-Length was logged. */
		if (exchange->head_sent && (exchange->bodiless || exchange->excess_logged))
			break;
	}
	py.Py_DecRef(iterator);
	return sent;
}

int wsgi_response_file(struct wsgi_exchange *exchange, PyObject *result)
{
	int descriptor;
	int64_t position, length;
	if (exchange->head_sent || !exchange->started ||
	    !wsgi_file_descriptor(exchange->interpreter, result, &descriptor, &position, &length))
		return -1;
	if (exchange->content_length >= 0 && exchange->content_length < length)
		length = exchange->content_length;
	if (exchange->bodiless) {
		close(descriptor);
		return wsgi_response_head(exchange, length);
	}
	struct wsgi_record *record = wsgi_record_new(exchange->request, WSGI_RECORD_FILE, 0);
	if (record == NULL) {
		close(descriptor);
		py.PyErr_NoMemory();
		return WSGI_SENT_FAILED;
	}
	record->number = descriptor;
	record->offset = position;
	record->length = length;
	record->more = 1;
	wsgi_response_head(exchange, length);
	exchange->sent += length;
	wsgi_request_add(exchange->request, record);
	return WSGI_SENT_OK;
}

int wsgi_response_end(struct wsgi_exchange *exchange)
{
	if (exchange->bodiless || exchange->content_length < 0 ||
	    exchange->sent >= exchange->content_length)
		return 0;
	wsgi_log_format(
		exchange->request, WSGI_LOG_ERROR,
		"the application produced %lld bytes and promised a Content-Length of %lld: "
		"the connection is closed, so that the client does not take the answer for whole",
		(long long)exchange->sent, (long long)exchange->content_length);
	return -1;
}
