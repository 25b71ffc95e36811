//go:build cgo && !windows

/* Loading libpython and filling the table of its functions. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr, RTLD_DEFAULT */
#endif
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "symbols.h"

#undef py /* the table itself, with faults or without */
struct wsgi_python py;

struct symbol {
	const char *name;
	size_t offset;
	int required;
};

#define REQUIRED_ENTRY(result, name, parameters) {#name, offsetof(struct wsgi_python, name), 1},
#define OPTIONAL_ENTRY(result, name, parameters) {#name, offsetof(struct wsgi_python, name), 0},
#define NO_ENTRY(name)
#define NO_FUNCTION(result, name, parameters)
#define EXCEPTION_ENTRY(name) {#name, offsetof(struct wsgi_python, name), 1},

static const struct symbol functions[] = {
	WSGI_PY_SYMBOLS(REQUIRED_ENTRY, OPTIONAL_ENTRY, NO_ENTRY)};
static const struct symbol exceptions[] = {
	WSGI_PY_SYMBOLS(NO_FUNCTION, NO_FUNCTION, EXCEPTION_ENTRY)};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* resolve fills the table from an open library; the exceptions' values exist
 * only once Python is initialised, so they are read later. */
static char *resolve(void *library, const char *path)
{
	for (size_t i = 0; i < COUNT(functions); i++) {
		void *address = dlsym(library, functions[i].name);
		if (address == NULL && functions[i].required)
			return wsgi_format("%s has no symbol %s: it is not a CPython library of a "
					   "supported version (3.9 or newer)",
					   path, functions[i].name);
		memcpy((char *)&py + functions[i].offset, &address, sizeof address);
	}
	for (size_t i = 0; i < COUNT(exceptions); i++) {
		if (dlsym(library, exceptions[i].name) == NULL)
			return wsgi_format("%s has no symbol %s: it is not a complete CPython "
					   "library",
					   path, exceptions[i].name);
	}
	return NULL;
}

static void *python_library; /* never closed: extension modules use it */

char *wsgi_python_loaded(void)
{
	Dl_info info;
	void *address = dlsym(RTLD_DEFAULT, "Py_GetVersion");
	if (address == NULL || dladdr(address, &info) == 0 || info.dli_fname == NULL)
		return NULL;
	return wsgi_format("%s", info.dli_fname);
}

char *wsgi_python_load(const char *path, int object_size)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (library == NULL) {
		const char *reason = dlerror();
		return wsgi_format("%s can't be loaded: %s", path,
				   reason ? reason : "dlopen failed");
	}
	char *error = resolve(library, path);
	if (error != NULL)
		return error; /* left open: closing a libpython is not safe either */
	python_library = library;
	py.object_size = object_size;
	return NULL;
}

const char *wsgi_python_version(void)
{
	return py.Py_GetVersion();
}

void wsgi_python_read_exceptions(void)
{
	for (size_t i = 0; i < COUNT(exceptions); i++) {
		PyObject **variable = dlsym(python_library, exceptions[i].name);
		memcpy((char *)&py + exceptions[i].offset, variable, sizeof *variable);
	}
}
