//go:build cgo && !windows

/* The response: start_response, write(), and the ways in which a body goes
 * out. What an application gets wrong is raised where it does it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "exchange.h"

enum {
	PIECE = 256 << 10,      /* of a large chunk, so that the output stays bounded */
	COPY_UNLOCKED = 256 << 10, /* larger copies are made without the GIL */
};

/* ---- Headers ------------------------------------------------------------- */

/* A native string whose characters are bytes (latin-1), seen as UTF-8. */
struct text {
	const char *utf8;
	size_t size;   /* of utf8 */
	size_t length; /* in characters, which is its size as latin-1 */
};

static int is_token(unsigned char c)
{
	return c > ' ' && c < 0x7f && strchr("\"(),/:;<=>?@[\\]{}", c) == NULL;
}

static int is_control(unsigned char c)
{
	return c < ' ' || c == 0x7f;
}

/* read_text looks at a native string. what names it in the error. */
static int read_text(PyObject *object, const char *what, struct text *text)
{
	if ((wsgi_type_flags(object) & Py_TPFLAGS_UNICODE_SUBCLASS) == 0) {
		py.PyErr_Format(py.PyExc_TypeError, "%s must be str, not %R", what, object);
		return -1;
	}
	Py_ssize_t size;
	text->utf8 = py.PyUnicode_AsUTF8AndSize(object, &size);
	if (text->utf8 == NULL)
		return -1;
	text->size = text->length = (size_t)size;
	for (size_t i = 0; i < text->size; i++) {
		unsigned char c = (unsigned char)text->utf8[i];
		if (c >= 0xc0) {
			if (c > 0xc3) {
				py.PyErr_Format(py.PyExc_ValueError,
						"%s has a character outside latin-1: %R", what, object);
				return -1;
			}
			text->length--;
		} else if (is_control(c)) {
			py.PyErr_Format(py.PyExc_ValueError, "%s has a control character: %R", what,
					object);
			return -1;
		}
	}
	return 0;
}

/* copy_text writes a text as latin-1 and returns what follows it. */
static char *copy_text(char *to, const struct text *text)
{
	if (text->size == text->length) {
		memcpy(to, text->utf8, text->size);
		return to + text->size;
	}
	for (size_t i = 0; i < text->size; i++) {
		unsigned char c = (unsigned char)text->utf8[i];
		if (c >= 0xc0) /* a lead byte of two: 0xc2 or 0xc3 */
			c = (unsigned char)(c << 6 | ((unsigned char)text->utf8[++i] & 0x3f));
		*to++ = (char)c;
	}
	return to;
}

static int equals(const struct text *text, const char *name)
{
	return text->size == strlen(name) && strncasecmp(text->utf8, name, text->size) == 0;
}

static int is_hop_by_hop(const struct text *name)
{
	static const char *const names[] = {
		"Connection",  "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Connection", "TE",    "Trailer",            "Transfer-Encoding",
		"Upgrade",     "Trailers",
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (equals(name, names[i]))
			return 1;
	}
	return 0;
}

/* read_pair looks at one (name, value). */
static int read_pair(PyObject *pair, struct text *name, struct text *value)
{
	if ((wsgi_type_flags(pair) & Py_TPFLAGS_TUPLE_SUBCLASS) == 0 || py.PyTuple_Size(pair) != 2) {
		py.PyErr_Format(py.PyExc_TypeError,
				"a response header must be a tuple (name, value), not %R", pair);
		return -1;
	}
	PyObject *first = py.PyTuple_GetItem(pair, 0), *second = py.PyTuple_GetItem(pair, 1);
	if (read_text(first, "the name of a response header", name) != 0 ||
	    read_text(second, "the value of a response header", value) != 0)
		return -1;
	int valid = name->size > 0;
	for (size_t i = 0; i < name->size && valid; i++)
		valid = is_token((unsigned char)name->utf8[i]);
	if (!valid) {
		py.PyErr_Format(py.PyExc_ValueError, "%R is not a valid header name", first);
		return -1;
	}
	return 0;
}

static int parse_length(PyObject *pair, const struct text *value, int64_t *length)
{
	int64_t number = 0;
	int valid = value->size > 0 && value->size <= 18;
	for (size_t i = 0; i < value->size && valid; i++) {
		valid = value->utf8[i] >= '0' && value->utf8[i] <= '9';
		number = number * 10 + (value->utf8[i] - '0');
	}
	if (!valid) {
		py.PyErr_Format(py.PyExc_ValueError, "the Content-Length is not a number: %R", pair);
		return -1;
	}
	if (*length >= 0) {
		py.PyErr_SetString(py.PyExc_ValueError, "there are two Content-Length headers");
		return -1;
	}
	*length = number;
	return 0;
}

/* pack_headers makes a record of a list of headers. With hints set only Link
 * headers are taken: no other makes sense before the response. */
static struct wsgi_record *pack_headers(struct wsgi_request *request, PyObject *headers, int hints,
					int64_t *content_length)
{
	if ((wsgi_type_flags(headers) & Py_TPFLAGS_LIST_SUBCLASS) == 0) {
		PyObject *type = py.PyObject_Type(headers);
		py.PyErr_Format(py.PyExc_TypeError,
				"the response headers must be a list of tuples, not %S", type);
		py.Py_DecRef(type);
		return NULL;
	}
	*content_length = -1;
	Py_ssize_t count = py.PyList_Size(headers);
	size_t size = 0;
	struct text name, value;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *pair = py.PyList_GetItem(headers, i);
		if (read_pair(pair, &name, &value) != 0)
			return NULL;
		if (hints && !equals(&name, "Link"))
			continue;
		if (is_hop_by_hop(&name)) {
			py.PyErr_Format(py.PyExc_ValueError,
					"%R is a hop-by-hop header: it is the server's to set (PEP 3333)",
					pair);
			return NULL;
		}
		if (equals(&name, "Content-Length") && parse_length(pair, &value, content_length) != 0)
			return NULL;
		size += 8 + name.length + value.length;
	}
	struct wsgi_record *record = wsgi_record_new(
		request, hints ? WSGI_RECORD_HINTS : WSGI_RECORD_HEAD, size);
	if (record == NULL) {
		py.PyErr_NoMemory();
		return NULL;
	}
	/* Nothing above ran Python code, so the list is as it was. */
	char *to = record->data;
	for (Py_ssize_t i = 0; i < count; i++) {
		if (read_pair(py.PyList_GetItem(headers, i), &name, &value) != 0) {
			wsgi_record_drop(record);
			return NULL;
		}
		if (hints && !equals(&name, "Link"))
			continue;
		uint32_t sizes[2] = {(uint32_t)name.length, (uint32_t)value.length};
		memcpy(to, sizes, sizeof sizes);
		to = copy_text(to + sizeof sizes, &name);
		to = copy_text(to, &value);
	}
	record->length = -1;
	return record;
}

/* parse_status reads "NNN reason". */
static int parse_status(PyObject *object)
{
	struct text text;
	if (read_text(object, "the response status", &text) != 0)
		return -1;
	int status = 0, valid = text.size >= 4 && text.utf8[3] == ' ';
	for (size_t i = 0; i < 3 && valid; i++) {
		valid = text.utf8[i] >= '0' && text.utf8[i] <= '9';
		status = status * 10 + (text.utf8[i] - '0');
	}
	if (!valid || status < 200) {
		py.PyErr_Format(py.PyExc_ValueError,
				"the response status must be like '200 OK', from 200 to 999, not %R",
				object);
		return -1;
	}
	return status;
}

/* ---- start_response ------------------------------------------------------- */

static PyObject *write_call(PyObject *self, PyObject *data);

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
	int status = parse_status(arguments[0]);
	if (status < 0)
		return NULL;
	int64_t content_length;
	struct wsgi_record *head =
		pack_headers(exchange->request, arguments[1], 0, &content_length);
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
	struct wsgi_record *record = pack_headers(exchange->request, headers, 1, &ignored);
	if (record == NULL)
		return NULL;
	if (record->size == 0 || exchange->head_sent || !exchange->request->early_hints) {
		wsgi_record_drop(record);
	} else {
		wsgi_request_add(exchange->request, record);
		wsgi_request_post(exchange->request);
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

/* ---- The body -------------------------------------------------------------- */

int wsgi_response_head(struct wsgi_exchange *exchange, int64_t content_length)
{
	if (exchange->head_sent)
		return WSGI_SENT_OK;
	if (!exchange->started) {
		py.PyErr_SetString(py.PyExc_RuntimeError,
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
		wsgi_log_format(exchange->request, WSGI_LOG_WARNING,
				"the application produced more than its Content-Length of %lld bytes: "
				"the rest is cut",
				(long long)exchange->content_length);
	}
	return (size_t)left;
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

/* send_chunk sends one chunk: it is on its way when this returns, or waits
 * behind less than the output's limit. The caller holds a reference to it. */
static int send_chunk(struct wsgi_exchange *exchange, PyObject *chunk)
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
		wsgi_request_post(exchange->request); /* the head at least is on its way */
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
		wsgi_request_post(exchange->request);
		data += piece;
		size -= piece;
	}
	return result;
}

/* check_bytes raises a TypeError for a chunk that isn't bytes. */
static int check_bytes(PyObject *chunk, const char *what)
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

static PyObject *write_call(PyObject *self, PyObject *data)
{
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	PyObject *none = exchange->interpreter->objects.none;
	if (check_bytes(data, "the argument of write()") != 0 ||
	    wsgi_exchange_enter(exchange, "write()") != 0)
		return NULL;
	py.Py_IncRef(data);
	int result = send_chunk(exchange, data);
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

/* list_total checks the items of a tuple and adds up their sizes. */
static int list_total(PyObject *items, Py_ssize_t count, int64_t *total)
{
	*total = 0;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *item = py.PyTuple_GetItem(items, i);
		if (check_bytes(item, "an item of the list that the application returned") != 0)
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
			sent = WSGI_SENT_GONE;
			break;
		}
		PyObject *chunk = py.PyIter_Next(iterator);
		if (chunk == NULL) {
			if (py.PyErr_Occurred() != NULL)
				sent = WSGI_SENT_FAILED;
			break;
		}
		if (check_bytes(chunk, "what the application yields") != 0)
			sent = WSGI_SENT_FAILED;
		else
			sent = send_chunk(exchange, chunk);
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
	wsgi_log_format(exchange->request, WSGI_LOG_ERROR,
			"the application produced %lld bytes and promised a Content-Length of %lld: "
			"the connection is closed, so that the client does not take the answer for whole",
			(long long)exchange->sent, (long long)exchange->content_length);
	return -1;
}
