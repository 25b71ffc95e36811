//go:build cgo && !windows

/* The environ dict, from the packed form that pool.Environ makes. */
#include <string.h>

#include "exchange.h"

enum { KEY_ID_SHIFT = 24 };

PyObject *wsgi_environ_new(struct wsgi_interpreter *interpreter, struct wsgi_request *request)
{
	PyObject *environ = py.PyDict_Copy(interpreter->objects.environ);
	if (environ == NULL)
		return NULL;
	const char *at = request->environ, *end = at + request->environ_size;
	while ((size_t)(end - at) >= 8) {
		uint32_t key_word, value_size;
		memcpy(&key_word, at, 4);
		memcpy(&value_size, at + 4, 4);
		at += 8;
		size_t id = key_word >> KEY_ID_SHIFT;
		size_t key_size = id != 0 ? 0 : key_word;
		if (id >= interpreter->key_count || key_size > (size_t)(end - at) ||
		    value_size > (size_t)(end - at) - key_size)
			break;
		PyObject *key;
		if (id != 0) {
			key = interpreter->objects.keys[id];
			py.Py_IncRef(key);
		} else {
			key = py.PyUnicode_DecodeLatin1(at, (Py_ssize_t)key_size, NULL);
		}
		at += key_size;
		PyObject *value =
			key != NULL ? py.PyUnicode_DecodeLatin1(at, (Py_ssize_t)value_size, NULL)
				    : NULL;
		at += value_size;
		int failed = value == NULL || py.PyDict_SetItem(environ, key, value) != 0;
		if (key != NULL)
			py.Py_DecRef(key);
		if (value != NULL)
			py.Py_DecRef(value);
		if (failed) {
			py.Py_DecRef(environ);
			return NULL;
		}
	}
	if (at != end) {
		py.Py_DecRef(environ);
		py.PyErr_SetString(py.PyExc_RuntimeError, "the packed environ is damaged");
		return NULL;
	}
	return environ;
}
