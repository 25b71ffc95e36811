/*
 * An extension module of the old kind (single-phase initialisation) that can be
 * initialised once in a process: what it adds the first time is not there in a
 * second module. Declared by hand, so that no headers are needed.
 */
#include <stddef.h>

struct object {
	ptrdiff_t references;
	void *type;
};

struct module_def {
	struct object base;
	struct object *(*init)(void);
	ptrdiff_t index;
	struct object *copy;
	const char *name;
	const char *doc;
	ptrdiff_t size;
	void *methods, *slots, *traverse, *clear, *free;
};

struct object *PyModule_Create2(struct module_def *def, int api_version);
int PyModule_AddIntConstant(struct object *module, const char *name, long value);
struct object *PyInit_once(void);

struct object *PyInit_once(void)
{
	static struct module_def def = {.base = {.references = 1}, .name = "once", .size = 0};
	static int initialised;

	struct object *module = PyModule_Create2(&def, 1013);
	if (module != NULL && !initialised) {
		initialised = 1;
		if (PyModule_AddIntConstant(module, "WHOLE", 1) < 0)
			return NULL;
	}
	return module;
}
