//go:build cgo && !windows

/* What an interpreter holds ready for its requests: the application, our
 * types, interned strings. All of it belongs to that interpreter alone. */
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

char *wsgi_exception_text(struct wsgi_interpreter *interpreter)
{
	PyObject *type = NULL, *value = NULL, *traceback = NULL;
	py.PyErr_Fetch(&type, &value, &traceback);
	if (type == NULL)
		return wsgi_format("an error without an exception");
	py.PyErr_NormalizeException(&type, &value, &traceback);
	PyObject *none = py.Py_BuildValue("");
	PyObject *text = NULL;
	if (none == NULL)
		py.PyErr_Clear();
	else if (interpreter->objects.format_exception != NULL)
		text = py.PyObject_CallFunctionObjArgs(interpreter->objects.format_exception, type,
						       value != NULL ? value : none,
						       traceback != NULL ? traceback : none, NULL);
	if (text == NULL) {
		/* Out of memory or of stack: say at least what it was. */
		py.PyErr_Clear();
		text = py.PyObject_Str(value != NULL ? value : type);
	}
	if (text == NULL) {
		py.PyErr_Clear();
		text = py.PyObject_Str(type);
	}
	PyObject *bytes = text != NULL
				  ? py.PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace")
				  : NULL;
	char *copy = bytes != NULL ? wsgi_format("%s", py.PyBytes_AsString(bytes)) : NULL;
	py.PyErr_Clear();
	PyObject *owned[] = {type, value, traceback, none, text, bytes};
	for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
		if (owned[i] != NULL)
			py.Py_DecRef(owned[i]);
	}
	return copy != NULL ? copy : wsgi_format("an exception that can't be shown");
}

/* string_list makes a list of str from the settings; bytes that aren't UTF-8
 * become surrogates, as in os.fsdecode. */
static PyObject *string_list(const char *data, const uint32_t *sizes, size_t count)
{
	PyObject *list = py.PyList_New(0);
	for (size_t i = 0; list != NULL && i < count; i++) {
		PyObject *item = py.PyUnicode_DecodeUTF8(data, sizes[i], "surrogateescape");
		int failed = item == NULL || py.PyList_Append(list, item) != 0;
		if (item != NULL)
			py.Py_DecRef(item);
		if (failed) {
			py.Py_DecRef(list);
			return NULL;
		}
		data += sizes[i];
	}
	return list;
}

/* run_bootstrap runs bootstrap.py in a namespace of its own. */
static int run_bootstrap(struct wsgi_interpreter *interpreter)
{
	struct wsgi_objects *objects = &interpreter->objects;
	PyObject *code = NULL, *name = NULL, *result = NULL;
	/* One after another: nothing may be asked of CPython while an exception is
	 * set. */
	if ((objects->bootstrap = py.PyDict_New()) != NULL &&
	    (code = py.Py_CompileString(interpreter->bootstrap, "<wsgi>", Py_file_input)) != NULL &&
	    (name = py.PyUnicode_FromString("wsgi_bootstrap")) != NULL &&
	    py.PyDict_SetItemString(objects->bootstrap, "__builtins__", py.PyEval_GetBuiltins()) ==
		    0 &&
	    py.PyDict_SetItemString(objects->bootstrap, "__name__", name) == 0)
		result = py.PyEval_EvalCode(code, objects->bootstrap, objects->bootstrap);
	int failed = result == NULL;
	if (code != NULL)
		py.Py_DecRef(code);
	if (name != NULL)
		py.Py_DecRef(name);
	if (result != NULL)
		py.Py_DecRef(result);
	return failed ? -1 : 0;
}

/* dict_item returns a new reference to an item that must be there. */
static PyObject *dict_item(PyObject *dict, const char *name)
{
	PyObject *item = py.PyDict_GetItemString(dict, name);
	if (item != NULL)
		py.Py_IncRef(item);
	else
		py.PyErr_Format(py.PyExc_RuntimeError, "there is no %s", name);
	return item;
}

/* bootstrap_item returns a new reference to one of bootstrap.py's names. */
static PyObject *bootstrap_item(struct wsgi_interpreter *interpreter, const char *name)
{
	return dict_item(interpreter->objects.bootstrap, name);
}

static int intern_keys(struct wsgi_interpreter *interpreter)
{
	const char *data = interpreter->keys;
	interpreter->objects.keys = calloc(interpreter->key_count + 1, sizeof(PyObject *));
	if (interpreter->objects.keys == NULL) {
		py.PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < interpreter->key_count; i++) {
		PyObject *key = py.PyUnicode_DecodeLatin1(data, interpreter->key_sizes[i], NULL);
		if (key == NULL)
			return -1;
		py.PyUnicode_InternInPlace(&key);
		interpreter->objects.keys[i] = key;
		data += interpreter->key_sizes[i];
	}
	return 0;
}

static int make_constants(struct wsgi_interpreter *interpreter)
{
	struct wsgi_objects *objects = &interpreter->objects;
	PyObject *io = py.PyImport_ImportModule("io");
	if (io == NULL)
		return -1;
	static const char *const names[] = {"FileIO", "BufferedReader", "BufferedRandom"};
	int found = 1;
	for (int i = 0; i < 3 && found; i++) {
		objects->file_types[i] = py.PyObject_GetAttrString(io, names[i]);
		found = objects->file_types[i] != NULL;
	}
	py.Py_DecRef(io);
	if (!found)
		return -1;
	PyObject *builtins = py.PyEval_GetBuiltins(); /* borrowed; a dict */
	/* One after another, up to the first that fails. */
#define MAKE(slot, expression) ((objects->slot = (expression)) != NULL)
	int made = MAKE(type_list, dict_item(builtins, "list")) &&
		   MAKE(type_tuple, dict_item(builtins, "tuple")) &&
		   MAKE(none, py.Py_BuildValue("")) &&
		   MAKE(empty_bytes, py.PyBytes_FromStringAndSize(NULL, 0)) &&
		   MAKE(str_close, py.PyUnicode_InternFromString("close")) &&
		   MAKE(str_fileno, py.PyUnicode_InternFromString("fileno")) &&
		   MAKE(str_tell, py.PyUnicode_InternFromString("tell")) &&
		   MAKE(str_input, py.PyUnicode_InternFromString("wsgi.input")) &&
		   MAKE(str_errors, py.PyUnicode_InternFromString("wsgi.errors")) &&
		   MAKE(str_early_hints, py.PyUnicode_InternFromString("wsgi.early_hints")) &&
		   MAKE(type_exchange, wsgi_exchange_type()) &&
		   MAKE(type_input, wsgi_input_type()) && MAKE(type_errors, wsgi_errors_type()) &&
		   MAKE(type_file, wsgi_file_type()) &&
		   MAKE(client_gone,
			py.PyErr_NewException("wsgi.ClientDisconnected", py.PyExc_OSError, NULL));
#undef MAKE
	return made ? 0 : -1;
}

/* make_environ prepares the dict that every environ is a copy of. */
static int make_environ(struct wsgi_interpreter *interpreter, PyObject *settings)
{
	struct wsgi_objects *objects = &interpreter->objects;
	PyObject *function = bootstrap_item(interpreter, "base_environ");
	if (function == NULL)
		return -1;
	objects->environ = py.PyObject_CallFunctionObjArgs(function, settings, NULL);
	py.Py_DecRef(function);
	PyObject *wrapper = objects->environ != NULL ? wsgi_file_wrapper(interpreter) : NULL;
	if (wrapper == NULL)
		return -1;
	int result = py.PyDict_SetItemString(objects->environ, "wsgi.file_wrapper", wrapper);
	py.Py_DecRef(wrapper);
	return result;
}

static int load(struct wsgi_interpreter *interpreter)
{
	struct wsgi_objects *objects = &interpreter->objects;
	if (run_bootstrap(interpreter) != 0 ||
	    (objects->format_exception = bootstrap_item(interpreter, "format_exception")) == NULL ||
	    (objects->finish = bootstrap_item(interpreter, "finish")) == NULL ||
	    make_constants(interpreter) != 0 || intern_keys(interpreter) != 0)
		return -1;
	PyObject *strings = NULL, *prepare = NULL, *load_application = NULL, *settings = NULL;
	if ((strings = string_list(interpreter->settings, interpreter->setting_sizes,
				   interpreter->setting_count)) != NULL &&
	    (objects->refusals = wsgi_refusals_new(interpreter)) != NULL &&
	    (prepare = bootstrap_item(interpreter, "prepare")) != NULL &&
	    (load_application = bootstrap_item(interpreter, "load_application")) != NULL &&
	    (settings = py.PyObject_CallFunctionObjArgs(prepare, strings, objects->refusals,
							NULL)) != NULL &&
	    make_environ(interpreter, settings) == 0)
		objects->application =
			py.PyObject_CallFunctionObjArgs(load_application, settings, NULL);
	PyObject *owned[] = {strings, prepare, load_application, settings};
	for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
		if (owned[i] != NULL)
			py.Py_DecRef(owned[i]);
	}
	return objects->application != NULL ? 0 : -1;
}

char *wsgi_objects_load(struct wsgi_interpreter *interpreter)
{
	return load(interpreter) == 0 ? NULL : wsgi_exception_text(interpreter);
}

void wsgi_objects_release(struct wsgi_interpreter *interpreter)
{
	struct wsgi_objects *objects = &interpreter->objects;
	for (size_t i = 0; objects->keys != NULL && i < interpreter->key_count; i++) {
		if (objects->keys[i] != NULL)
			py.Py_DecRef(objects->keys[i]);
	}
	free(objects->keys);
	objects->keys = NULL;
	if (objects->refusals != NULL)
		wsgi_refusals_end(objects->refusals);
	/* none and the types stay readable for objects that live on: the structs
	 * that they point to are released with the last of those. */
	PyObject **owned[] = {
		&objects->application,   &objects->bootstrap,       &objects->format_exception,
		&objects->finish,        &objects->environ,         &objects->empty_bytes,
		&objects->str_close,     &objects->str_fileno,      &objects->str_tell,
		&objects->str_input,     &objects->str_errors,      &objects->type_list,
		&objects->type_tuple,    &objects->str_early_hints, &objects->type_exchange,
		&objects->type_input,    &objects->type_errors,     &objects->type_file,
		&objects->client_gone,   &objects->file_types[0],   &objects->file_types[1],
		&objects->file_types[2], &objects->refusals,
	};
	for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
		if (*owned[i] != NULL)
			py.Py_DecRef(*owned[i]);
		*owned[i] = NULL;
	}
	if (objects->none != NULL)
		py.Py_DecRef(objects->none);
}
