//go:build cgo && !windows

/* The checks on a response's status and headers, and their packed form. What is
 * wrong with them is raised where the application passes them. */
#include <string.h>
#include <strings.h>

#include "exchange.h"

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
						"%s has a character outside latin-1: %R", what,
						object);
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
		"Connection",
		"Keep-Alive",
		"Proxy-Authenticate",
		"Proxy-Authorization",
		"Proxy-Connection",
		"TE",
		"Trailer",
		"Transfer-Encoding",
		"Upgrade",
		"Trailers",
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
	if ((wsgi_type_flags(pair) & Py_TPFLAGS_TUPLE_SUBCLASS) == 0 ||
	    py.PyTuple_Size(pair) != 2) {
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
		py.PyErr_Format(py.PyExc_ValueError, "the Content-Length is not a number: %R",
				pair);
		return -1;
	}
	if (*length >= 0) {
		py.PyErr_SetString(py.PyExc_ValueError, "there are two Content-Length headers");
		return -1;
	}
	*length = number;
	return 0;
}

/* wsgi_headers_pack makes a record of a list of headers. With hints set only Link
 * headers are taken: no other makes sense before the response. */
struct wsgi_record *wsgi_headers_pack(struct wsgi_request *request, PyObject *headers, int hints,
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
			py.PyErr_Format(
				py.PyExc_ValueError,
				"%R is a hop-by-hop header: it is the server's to set (PEP 3333)",
				pair);
			return NULL;
		}
		if (equals(&name, "Content-Length") &&
		    parse_length(pair, &value, content_length) != 0)
			return NULL;
		size += 8 + name.length + value.length;
	}
	struct wsgi_record *record =
		wsgi_record_new(request, hints ? WSGI_RECORD_HINTS : WSGI_RECORD_HEAD, size);
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

/* wsgi_status_parse reads "NNN reason". */
int wsgi_status_parse(PyObject *object)
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
		py.PyErr_Format(
			py.PyExc_ValueError,
			"the response status must be like '200 OK', from 200 to 999, not %R",
			object);
		return -1;
	}
	return status;
}
