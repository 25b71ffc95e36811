//go:build cgo && !windows

/* wsgi.file_wrapper: an iterable over a file-like object, and the way to the
 * real file behind it, which Go can send by itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exchange.h"

struct file {
	PyObject *source;
	PyObject *read;
	PyObject *block_size;
};

static PyObject *file_iter(PyObject *self)
{
	py.Py_IncRef(self);
	return self;
}

static PyObject *file_next(PyObject *self)
{
	struct file *file = wsgi_object_data(self);
	PyObject *block = py.PyObject_CallFunctionObjArgs(file->read, file->block_size, NULL);
	if (block == NULL)
		return NULL;
	int filled = py.PyObject_IsTrue(block);
	if (filled <= 0) {
		py.Py_DecRef(block);
		return NULL; /* the end; or an exception, if one is set */
	}
	return block;
}

static PyObject *file_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	struct file *file = wsgi_object_data(self);
	PyObject *close = py.PyObject_GetAttrString(file->source, "close");
	if (close == NULL) {
		if (!py.PyErr_ExceptionMatches(py.PyExc_AttributeError))
			return NULL;
		py.PyErr_Clear();
		return py.Py_BuildValue(""); /* None */
	}
	PyObject *result = py.PyObject_CallFunctionObjArgs(close, NULL);
	py.Py_DecRef(close);
	return result;
}

static void file_dealloc(PyObject *self)
{
	struct file *file = wsgi_object_data(self);
	if (file->source != NULL)
		py.Py_DecRef(file->source);
	if (file->read != NULL)
		py.Py_DecRef(file->read);
	if (file->block_size != NULL)
		py.Py_DecRef(file->block_size);
	wsgi_object_free(self);
}

static PyMethodDef file_methods[] = {
	{"close", (void (*)(void))file_close, METH_NOARGS, "close(): close the wrapped object"},
	{NULL, NULL, 0, NULL},
};

PyObject *wsgi_file_type(void)
{
	PyType_Slot slots[] = {
		{Py_tp_dealloc, (void *)file_dealloc},
		{Py_tp_iter, (void *)file_iter},
		{Py_tp_iternext, (void *)file_next},
		{Py_tp_methods, file_methods},
		{Py_tp_doc, (void *)"The blocks of a file (wsgi.file_wrapper)."},
		{0, NULL},
	};
	PyType_Spec spec = {"wsgi.FileWrapper", py.object_size + (int)sizeof(struct file), 0,
			    (unsigned)Py_TPFLAGS_DEFAULT, slots};
	return py.PyType_FromSpec(&spec);
}

/* The callable's self is the type of the wrappers, which belongs to the
 * interpreter that it is called in. */
static PyObject *wrap(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	if (count < 1 || count > 2) {
		py.PyErr_Format(
			py.PyExc_TypeError,
			"wsgi.file_wrapper takes a file and a block size (%zd arguments given)",
			count);
		return NULL;
	}
	Py_ssize_t size = 0;
	if (count == 2) {
		size = py.PyNumber_AsSsize_t(arguments[1], NULL);
		if (size == -1 && py.PyErr_Occurred() != NULL)
			return NULL;
	}
	/* The size is a suggestion; small blocks would only cost time. */
	if (size < 64 << 10)
		size = 64 << 10;
	PyObject *read = py.PyObject_GetAttrString(arguments[0], "read");
	if (read == NULL)
		return NULL;
	PyObject *block_size = py.Py_BuildValue("n", size);
	PyObject *wrapper = block_size != NULL ? py.PyType_GenericAlloc(self, 0) : NULL;
	if (wrapper == NULL) {
		py.Py_DecRef(read);
		if (block_size != NULL)
			py.Py_DecRef(block_size);
		return NULL;
	}
	struct file *file = wsgi_object_data(wrapper);
	py.Py_IncRef(arguments[0]);
	file->source = arguments[0];
	file->read = read;
	file->block_size = block_size;
	return wrapper;
}

static PyMethodDef wrap_method = {
	"file_wrapper",
	(void (*)(void))wrap,
	METH_FASTCALL,
	"file_wrapper(file, block_size=8192): an iterable that sends the file",
};

PyObject *wsgi_file_wrapper(struct wsgi_interpreter *interpreter)
{
	return py.PyCFunction_NewEx(&wrap_method, interpreter->objects.type_file, NULL);
}

/* call_integer calls a method that returns an integer; -1 for any failure,
 * with no exception left behind. */
static int64_t call_integer(PyObject *object, PyObject *name)
{
	PyObject *method = py.PyObject_GetAttr(object, name);
	PyObject *result = method != NULL ? py.PyObject_CallFunctionObjArgs(method, NULL) : NULL;
	long long value = result != NULL ? py.PyLong_AsLongLong(result) : -1;
	if (method != NULL)
		py.Py_DecRef(method);
	if (result != NULL)
		py.Py_DecRef(result);
	if (py.PyErr_Occurred() != NULL) {
		py.PyErr_Clear();
		return -1;
	}
	return value;
}

/* reopen gives a descriptor with a file offset of its own. dup would share the
 * offset, and sendfile moves it: the application would read from elsewhere. */
static int reopen(int descriptor)
{
#ifdef __linux__
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
	return open(path, O_RDONLY | O_CLOEXEC);
#else
	(void)descriptor;
	return -1; /* the blocks are read by Python */
#endif
}

int wsgi_file_descriptor(struct wsgi_interpreter *interpreter, PyObject *wrapper, int *descriptor,
			 int64_t *position, int64_t *remaining)
{
	struct wsgi_objects *objects = &interpreter->objects;
	struct file *file = wsgi_object_data(wrapper);
	int real = wsgi_is_exactly(file->source, objects->file_types[0]);
	for (int i = 1; i < 3 && !real; i++) {
		if (!wsgi_is_exactly(file->source, objects->file_types[i]))
			continue;
		/* A buffer may lie over anything: over a GzipFile its fileno() is that
		 * of the packed file. */
		PyObject *raw = py.PyObject_GetAttrString(file->source, "raw");
		if (raw == NULL) {
			py.PyErr_Clear();
			return 0;
		}
		real = wsgi_is_exactly(raw, objects->file_types[0]);
		py.Py_DecRef(raw);
	}
	if (!real)
		return 0;
	int64_t number = call_integer(file->source, objects->str_fileno);
	*position = call_integer(file->source, objects->str_tell);
	struct stat status;
	if (number < 0 || *position < 0 || fstat((int)number, &status) != 0 ||
	    !S_ISREG(status.st_mode))
		return 0;
	*descriptor = reopen((int)number);
	if (*descriptor < 0)
		return 0;
	*remaining = status.st_size > *position ? status.st_size - *position : 0;
	return 1;
}
