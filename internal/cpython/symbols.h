/* The part of CPython's C API that this library calls, declared by hand so
 * that it compiles without Python's headers and runs with any version from
 * 3.9 on. Only functions, exception objects and plain structs of the ABI
 * appear here: never a macro or an inline function that would fix the layout
 * of an object at compile time. */
#ifndef WSGI_SYMBOLS_H
#define WSGI_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wchar.h>

#include "faults.h"

typedef struct wsgi_py_object PyObject;
typedef struct wsgi_py_thread_state PyThreadState;
typedef struct wsgi_py_interpreter_state PyInterpreterState;
typedef struct wsgi_py_init_config PyInitConfig;
typedef ssize_t Py_ssize_t;

/* Plain structs of the ABI, each the same in every supported version. */
typedef struct {
	int type; /* 0 ok, 1 error, 2 exit */
	const char *func;
	const char *err_msg;
	int exitcode;
} PyStatus;

typedef struct {
	int config_init, parse_argv, isolated, use_environment, configure_locale;
	int coerce_c_locale, coerce_c_locale_warn, utf8_mode, dev_mode, allocator;
	int reserve[8]; /* room, should a later version append fields */
} PyPreConfig;

typedef struct {
	int use_main_obmalloc, allow_fork, allow_exec, allow_threads;
	int allow_daemon_threads, check_multi_interp_extensions, gil;
} PyInterpreterConfig;

enum { PY_GIL_SHARED = 1, PY_GIL_OWN = 2 };

/* The calling conventions of a PyMethodDef that are used here. The function
 * pointer is stored as a void function and cast back by CPython. */
enum { METH_VARARGS = 1, METH_KEYWORDS = 2, METH_NOARGS = 4, METH_O = 8, METH_FASTCALL = 0x80 };

typedef struct {
	const char *name;
	void (*function)(void);
	int flags;
	const char *doc;
} PyMethodDef;

typedef struct {
	int slot;
	void *function;
} PyType_Slot;

typedef struct {
	const char *name;
	int basicsize;
	int itemsize;
	unsigned int flags;
	PyType_Slot *slots;
} PyType_Spec;

/* Slot numbers of the stable ABI (typeslots.h). */
enum {
	Py_tp_dealloc = 52,
	Py_tp_doc = 56,
	Py_tp_iter = 62,
	Py_tp_iternext = 63,
	Py_tp_methods = 64,
	Py_tp_free = 74,
};

/* Bits of PyType_GetFlags that name the built-in base of a type. */
#define Py_TPFLAGS_DEFAULT (1UL << 18)
#define Py_TPFLAGS_DISALLOW_INSTANTIATION (1UL << 7) /* 3.10 */
#define Py_TPFLAGS_LIST_SUBCLASS (1UL << 25)
#define Py_TPFLAGS_TUPLE_SUBCLASS (1UL << 26)
#define Py_TPFLAGS_BYTES_SUBCLASS (1UL << 27)
#define Py_TPFLAGS_UNICODE_SUBCLASS (1UL << 28)
#define Py_TPFLAGS_BASE_EXC_SUBCLASS (1UL << 30)

enum { Py_file_input = 257, Py_PRINT_RAW = 1 };

/* REQUIRED(result, name, parameters) and OPTIONAL(...) for each function;
 * EXCEPTION(name) for each exception object. */
#define WSGI_PY_SYMBOLS(REQUIRED, OPTIONAL, EXCEPTION)                                            \
	REQUIRED(const char *, Py_GetVersion, (void))                                             \
	REQUIRED(int, Py_IsInitialized, (void))                                                   \
	REQUIRED(void, Py_InitializeEx, (int))                                                    \
	REQUIRED(PyStatus, Py_PreInitialize, (const PyPreConfig *))                               \
	REQUIRED(void, PyPreConfig_InitPythonConfig, (PyPreConfig *))                             \
	REQUIRED(wchar_t *, Py_DecodeLocale, (const char *, size_t *))                            \
	REQUIRED(void, PyMem_RawFree, (void *))                                                   \
	OPTIONAL(void, Py_SetProgramName, (const wchar_t *))                                      \
	OPTIONAL(PyInitConfig *, PyInitConfig_Create, (void))                                     \
	OPTIONAL(void, PyInitConfig_Free, (PyInitConfig *))                                       \
	OPTIONAL(int, PyInitConfig_SetInt, (PyInitConfig *, const char *, int64_t))               \
	OPTIONAL(int, PyInitConfig_SetStr, (PyInitConfig *, const char *, const char *))          \
	OPTIONAL(int, PyInitConfig_GetError, (PyInitConfig *, const char **))                     \
	OPTIONAL(int, Py_InitializeFromInitConfig, (PyInitConfig *))                              \
	OPTIONAL(PyStatus, Py_NewInterpreterFromConfig,                                           \
		 (PyThreadState **, const PyInterpreterConfig *))                                 \
	REQUIRED(PyThreadState *, Py_NewInterpreter, (void))                                      \
	REQUIRED(void, Py_EndInterpreter, (PyThreadState *))                                      \
	REQUIRED(PyThreadState *, PyEval_SaveThread, (void))                                      \
	REQUIRED(void, PyEval_RestoreThread, (PyThreadState *))                                   \
	REQUIRED(PyInterpreterState *, PyInterpreterState_Main, (void))                           \
	REQUIRED(PyThreadState *, PyThreadState_New, (PyInterpreterState *))                      \
	REQUIRED(PyThreadState *, PyThreadState_Swap, (PyThreadState *))                          \
	REQUIRED(void, PyThreadState_Clear, (PyThreadState *))                                    \
	REQUIRED(void, PyThreadState_Delete, (PyThreadState *))                                   \
	REQUIRED(void, PyThreadState_DeleteCurrent, (void))                                       \
	REQUIRED(PyInterpreterState *, PyThreadState_GetInterpreter, (PyThreadState *))           \
	REQUIRED(PyThreadState *, PyInterpreterState_ThreadHead, (PyInterpreterState *))          \
	REQUIRED(PyThreadState *, PyThreadState_Next, (PyThreadState *))                          \
	REQUIRED(void, Py_IncRef, (PyObject *))                                                   \
	REQUIRED(void, Py_DecRef, (PyObject *))                                                   \
	REQUIRED(PyObject *, PyObject_Type, (PyObject *))                                         \
	REQUIRED(PyObject *, PyObject_Str, (PyObject *))                                          \
	REQUIRED(PyObject *, PyObject_GetIter, (PyObject *))                                      \
	REQUIRED(PyObject *, PyObject_GetAttr, (PyObject *, PyObject *))                          \
	REQUIRED(PyObject *, PyObject_GetAttrString, (PyObject *, const char *))                  \
	REQUIRED(int, PyObject_SetAttrString, (PyObject *, const char *, PyObject *))             \
	REQUIRED(PyObject *, PyObject_CallFunctionObjArgs, (PyObject *, ...))                     \
	REQUIRED(PyObject *, PyObject_CallFunction, (PyObject *, const char *, ...))              \
	REQUIRED(int, PyObject_IsTrue, (PyObject *))                                              \
	REQUIRED(PyObject *, PyIter_Next, (PyObject *))                                           \
	REQUIRED(int, PyIter_Check, (PyObject *))                                                 \
	REQUIRED(PyObject *, Py_BuildValue, (const char *, ...))                                  \
	REQUIRED(int, PyArg_ParseTuple, (PyObject *, const char *, ...))                          \
	REQUIRED(PyObject *, PyBool_FromLong, (long))                                             \
	REQUIRED(long, PyLong_AsLong, (PyObject *))                                               \
	REQUIRED(long long, PyLong_AsLongLong, (PyObject *))                                      \
	REQUIRED(Py_ssize_t, PyNumber_AsSsize_t, (PyObject *, PyObject *))                        \
	REQUIRED(PyObject *, PyUnicode_FromString, (const char *))                                \
	REQUIRED(void, PyUnicode_InternInPlace, (PyObject **))                                    \
	REQUIRED(PyObject *, PyUnicode_InternFromString, (const char *))                          \
	REQUIRED(PyObject *, PyUnicode_DecodeLatin1, (const char *, Py_ssize_t, const char *))    \
	REQUIRED(PyObject *, PyUnicode_DecodeUTF8, (const char *, Py_ssize_t, const char *))      \
	REQUIRED(PyObject *, PyUnicode_AsEncodedString, (PyObject *, const char *, const char *)) \
	REQUIRED(const char *, PyUnicode_AsUTF8AndSize, (PyObject *, Py_ssize_t *))               \
	REQUIRED(PyObject *, PyBytes_FromStringAndSize, (const char *, Py_ssize_t))               \
	REQUIRED(char *, PyBytes_AsString, (PyObject *))                                          \
	REQUIRED(Py_ssize_t, PyBytes_Size, (PyObject *))                                          \
	REQUIRED(PyObject *, PyTuple_New, (Py_ssize_t))                                           \
	REQUIRED(Py_ssize_t, PyTuple_Size, (PyObject *))                                          \
	REQUIRED(PyObject *, PyTuple_GetItem, (PyObject *, Py_ssize_t))                           \
	REQUIRED(PyObject *, PyList_New, (Py_ssize_t))                                            \
	REQUIRED(int, PyList_Append, (PyObject *, PyObject *))                                    \
	REQUIRED(Py_ssize_t, PyList_Size, (PyObject *))                                           \
	REQUIRED(PyObject *, PyList_AsTuple, (PyObject *))                                        \
	REQUIRED(PyObject *, PyList_GetItem, (PyObject *, Py_ssize_t))                            \
	REQUIRED(PyObject *, PyDict_New, (void))                                                  \
	REQUIRED(PyObject *, PyDict_Copy, (PyObject *))                                           \
	REQUIRED(int, PyDict_SetItem, (PyObject *, PyObject *, PyObject *))                       \
	REQUIRED(int, PyDict_SetItemString, (PyObject *, const char *, PyObject *))               \
	REQUIRED(PyObject *, PyDict_GetItemString, (PyObject *, const char *))                    \
	REQUIRED(PyObject *, PyImport_ImportModule, (const char *))                               \
	REQUIRED(PyObject *, PyEval_GetBuiltins, (void))                                          \
	REQUIRED(PyObject *, PyEval_EvalCode, (PyObject *, PyObject *, PyObject *))               \
	REQUIRED(PyObject *, Py_CompileString, (const char *, const char *, int))                 \
	REQUIRED(PyObject *, PyType_FromSpec, (PyType_Spec *))                                    \
	REQUIRED(void *, PyType_GetSlot, (PyObject *, int))                                       \
	REQUIRED(unsigned long, PyType_GetFlags, (PyObject *))                                    \
	REQUIRED(PyObject *, PyType_GenericAlloc, (PyObject *, Py_ssize_t))                       \
	REQUIRED(PyObject *, PyCFunction_NewEx, (PyMethodDef *, PyObject *, PyObject *))          \
	REQUIRED(PyObject *, PyErr_Occurred, (void))                                              \
	REQUIRED(void, PyErr_Clear, (void))                                                       \
	REQUIRED(void, PyErr_Fetch, (PyObject **, PyObject **, PyObject **))                      \
	REQUIRED(void, PyErr_Restore, (PyObject *, PyObject *, PyObject *))                       \
	REQUIRED(void, PyErr_NormalizeException, (PyObject **, PyObject **, PyObject **))         \
	REQUIRED(int, PyErr_ExceptionMatches, (PyObject *))                                       \
	REQUIRED(int, PyErr_GivenExceptionMatches, (PyObject *, PyObject *))                      \
	REQUIRED(PyObject *, PyErr_NewException, (const char *, PyObject *, PyObject *))          \
	REQUIRED(void, PyErr_SetString, (PyObject *, const char *))                               \
	REQUIRED(PyObject *, PyErr_Format, (PyObject *, const char *, ...))                       \
	REQUIRED(PyObject *, PyErr_NoMemory, (void))                                              \
	REQUIRED(PyObject *, PyErr_SetFromErrno, (PyObject *))                                    \
	REQUIRED(PyObject *, PySys_GetObject, (const char *))                                     \
	REQUIRED(int, PyFile_WriteObject, (PyObject *, PyObject *, int))                          \
	EXCEPTION(PyExc_AttributeError)                                                           \
	EXCEPTION(PyExc_ImportError)                                                              \
	EXCEPTION(PyExc_MemoryError)                                                              \
	EXCEPTION(PyExc_OSError)                                                                  \
	EXCEPTION(PyExc_RuntimeError)                                                             \
	EXCEPTION(PyExc_TypeError)                                                                \
	EXCEPTION(PyExc_UnicodeEncodeError)                                                       \
	EXCEPTION(PyExc_ValueError)

#define WSGI_PY_MEMBER(result, name, parameters) result(*name) parameters;
#define WSGI_PY_OBJECT(name) PyObject *name;

struct wsgi_python {
	WSGI_PY_SYMBOLS(WSGI_PY_MEMBER, WSGI_PY_MEMBER, WSGI_PY_OBJECT)
	/* sizeof(PyObject) of the loaded build, from object.__basicsize__:
	 * 16, or more on debug and free-threaded builds. */
	int object_size;
	int minor; /* of version 3.minor */
};

/* The one libpython of the process. Filled once, before any worker starts. */
extern struct wsgi_python py;

#ifdef WSGI_FAULTS
struct wsgi_python *wsgi_faulty_python(void);
#define py (*wsgi_faulty_python())
#endif

/* wsgi_object_data returns the C data of an instance of one of our types,
 * which lies behind the header that only CPython knows. */
static inline void *wsgi_object_data(PyObject *object)
{
	return (char *)object + py.object_size;
}

/* wsgi_type_flags returns the flags of an object's type. */
static inline unsigned long wsgi_type_flags(PyObject *object)
{
	PyObject *type = py.PyObject_Type(object);
	unsigned long flags = py.PyType_GetFlags(type);
	py.Py_DecRef(type);
	return flags;
}

/* wsgi_is_exactly reports whether an object's type is type and no subclass. */
static inline int wsgi_is_exactly(PyObject *object, PyObject *type)
{
	PyObject *actual = py.PyObject_Type(object);
	py.Py_DecRef(actual);
	return actual == type;
}

#endif
