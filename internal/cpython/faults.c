//go:build cgo && !windows && faults

/* The steps that fail, and who counts them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef WSGI_FAULTS
#define WSGI_FAULTS 1 /* as faults.go has it for all files */
#endif
#define WSGI_FAULTS_REAL /* here, malloc is malloc */
#include <errno.h>

#include "request.h"
#include "symbols.h"
#undef py

static uint64_t count; /* steps since wsgi_faults_arm */
static uint64_t limit; /* the first of these that is to fail; 0: none */
static const char *fired_name;
static uint64_t fired_number;
static int64_t live;

void wsgi_faults_arm(uint64_t n)
{
	STORE(&limit, 0);
	STORE(&count, 0);
	STORE(&fired_name, NULL);
	STORE(&limit, n);
}

const char *wsgi_faults_fired(uint64_t *number)
{
	*number = LOAD(&fired_number);
	return LOAD(&fired_name);
}

int64_t wsgi_faults_live(void)
{
	return LOAD(&live);
}

/* is_due counts a step and reports whether it is to fail. */
static int is_due(void)
{
	uint64_t now = ADD(&count, 1), from = LOAD(&limit);
	return from != 0 && now >= from;
}

static void fired(const char *name)
{
	STORE(&limit, 0);
	STORE(&fired_number, LOAD(&count));
	STORE(&fired_name, name);
	errno = ENOMEM;
}

/* ---- The system -------------------------------------------------------- */

static void *counted(void *memory)
{
	if (memory != NULL)
		ADD(&live, 1);
	return memory;
}

void *wsgi_faults_malloc(size_t size)
{
	return is_due() ? (fired("malloc"), NULL) : counted(malloc(size));
}

void *wsgi_faults_calloc(size_t number, size_t size)
{
	return is_due() ? (fired("calloc"), NULL) : counted(calloc(number, size));
}

void *wsgi_faults_realloc(void *memory, size_t size)
{
	if (is_due())
		return fired("realloc"), NULL;
	return memory != NULL ? realloc(memory, size) : counted(malloc(size));
}

char *wsgi_faults_strdup(const char *text)
{
	return is_due() ? (fired("strdup"), NULL) : counted(strdup(text));
}

void wsgi_faults_free(void *memory)
{
	if (memory != NULL)
		ADD(&live, -1);
	free(memory);
}

int wsgi_faults_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
		       void *argument)
{
	if (is_due())
		return fired("pthread_create"), EAGAIN;
	return pthread_create(thread, attributes, run, argument);
}

int wsgi_faults_eventfd(unsigned initial, int flags)
{
	return is_due() ? (fired("eventfd"), -1) : eventfd(initial, flags);
}

int wsgi_faults_open(const char *path, int flags)
{
	return is_due() ? (fired("open"), -1) : open(path, flags);
}

void *wsgi_faults_dlopen(const char *path, int flags)
{
	return is_due() ? (fired("dlopen"), NULL) : dlopen(path, flags);
}

/* ---- CPython ----------------------------------------------------------- */

/* What can fail, by how it tells: RAISES(result, name, value) returns the value
 * with an exception set, RETURNS(result, name, value) without one. What isn't
 * here either can't fail or tells nobody. */
#define FALLIBLE(RAISES, RETURNS)                                 \
	RETURNS(wchar_t *, Py_DecodeLocale, NULL)                 \
	RETURNS(PyInitConfig *, PyInitConfig_Create, NULL)        \
	RETURNS(int, PyInitConfig_SetInt, -1)                     \
	RETURNS(int, PyInitConfig_SetStr, -1)                     \
	RETURNS(int, Py_InitializeFromInitConfig, -1)             \
	RETURNS(PyStatus, Py_PreInitialize, no_memory)            \
	RETURNS(PyStatus, Py_NewInterpreterFromConfig, no_memory) \
	RETURNS(PyThreadState *, Py_NewInterpreter, NULL)         \
	RETURNS(PyThreadState *, PyThreadState_New, NULL)         \
	RETURNS(PyObject *, PyDict_GetItemString, NULL)           \
	RETURNS(PyObject *, PySys_GetObject, NULL)                \
	RAISES(PyObject *, PyObject_Str, NULL)                    \
	RAISES(PyObject *, PyObject_GetIter, NULL)                \
	RAISES(PyObject *, PyObject_GetAttr, NULL)                \
	RAISES(PyObject *, PyObject_GetAttrString, NULL)          \
	RAISES(int, PyObject_SetAttrString, -1)                   \
	RAISES(PyObject *, PyObject_CallFunctionObjArgs, NULL)    \
	RAISES(PyObject *, PyObject_CallFunction, NULL)           \
	RAISES(int, PyObject_IsTrue, -1)                          \
	RAISES(PyObject *, PyIter_Next, NULL)                     \
	RAISES(PyObject *, Py_BuildValue, NULL)                   \
	RAISES(int, PyArg_ParseTuple, 0)                          \
	RAISES(long, PyLong_AsLong, -1)                           \
	RAISES(long long, PyLong_AsLongLong, -1)                  \
	RAISES(Py_ssize_t, PyNumber_AsSsize_t, -1)                \
	RAISES(PyObject *, PyUnicode_FromString, NULL)            \
	RAISES(PyObject *, PyUnicode_InternFromString, NULL)      \
	RAISES(PyObject *, PyUnicode_DecodeLatin1, NULL)          \
	RAISES(PyObject *, PyUnicode_DecodeUTF8, NULL)            \
	RAISES(PyObject *, PyUnicode_AsEncodedString, NULL)       \
	RAISES(const char *, PyUnicode_AsUTF8AndSize, NULL)       \
	RAISES(PyObject *, PyBytes_FromStringAndSize, NULL)       \
	RAISES(PyObject *, PyTuple_New, NULL)                     \
	RAISES(PyObject *, PyList_New, NULL)                      \
	RAISES(int, PyList_Append, -1)                            \
	RAISES(PyObject *, PyList_AsTuple, NULL)                  \
	RAISES(PyObject *, PyDict_New, NULL)                      \
	RAISES(PyObject *, PyDict_Copy, NULL)                     \
	RAISES(int, PyDict_SetItem, -1)                           \
	RAISES(int, PyDict_SetItemString, -1)                     \
	RAISES(PyObject *, PyImport_ImportModule, NULL)           \
	RAISES(PyObject *, PyEval_EvalCode, NULL)                 \
	RAISES(PyObject *, Py_CompileString, NULL)                \
	RAISES(PyObject *, PyType_FromSpec, NULL)                 \
	RAISES(PyObject *, PyType_GenericAlloc, NULL)             \
	RAISES(PyObject *, PyCFunction_NewEx, NULL)               \
	RAISES(PyObject *, PyErr_NewException, NULL)              \
	RAISES(PyObject *, PyErr_Format, NULL)                    \
	RAISES(PyObject *, PyErr_SetFromErrno, NULL)              \
	RAISES(void, PyErr_SetString, (void)0)                    \
	RAISES(int, PyFile_WriteObject, -1)

static const PyStatus no_memory = {1, "faults", "memory allocation failed", 0};

/* They take whatever they are called with, and look at none of it: so one shape
 * does for all, functions of variable arguments included, which a function that
 * passes calls on could not serve. */
#define RAISING_STUB(result, name, value) \
	static result fail_##name()       \
	{                                 \
		fired(#name);             \
		py.PyErr_NoMemory();      \
		return value;             \
	}
#define RETURNING_STUB(result, name, value) \
	static result fail_##name()         \
	{                                   \
		fired(#name);               \
		return value;               \
	}
FALLIBLE(RAISING_STUB, RETURNING_STUB)

#define REPLACE(result, name, value)                       \
	if (py.name != NULL) {                             \
		void *stub = (void *)fail_##name;          \
		memcpy(&failing.name, &stub, sizeof stub); \
	}

struct wsgi_python *wsgi_faulty_python(void)
{
	static _Thread_local struct wsgi_python failing;
	if (!is_due())
		return &py;
	failing = py;
	FALLIBLE(REPLACE, REPLACE)
	return &failing;
}
