/* Failures on purpose, for tests. Under the build tag "faults", what can fail
 * of what the C side asks of the system and of CPython is counted, and the one
 * that a test names fails, as it would where memory is short. Without the tag
 * nothing here is compiled.
 *
 * Included by symbols.h and request.h, and by what includes neither. */
#ifndef WSGI_FAULTS_H
#define WSGI_FAULTS_H

#ifdef WSGI_FAULTS

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* wsgi_faults_arm starts counting anew and lets the first step from the n-th on
 * that can fail do so: once. 0 lets none fail. wsgi_faults_fired returns the
 * name of the one that did, and its number, or NULL. */
void wsgi_faults_arm(uint64_t n);
const char *wsgi_faults_fired(uint64_t *number);
/* wsgi_faults_live counts the C side's allocations that are not freed yet. */
int64_t wsgi_faults_live(void);

void *wsgi_faults_malloc(size_t size);
void *wsgi_faults_calloc(size_t count, size_t size);
void *wsgi_faults_realloc(void *memory, size_t size);
char *wsgi_faults_strdup(const char *text);
void wsgi_faults_free(void *memory);
int wsgi_faults_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
		       void *argument);
int wsgi_faults_eventfd(unsigned initial, int flags);
int wsgi_faults_open(const char *path, int flags);
void *wsgi_faults_dlopen(const char *path, int flags);

#ifndef WSGI_FAULTS_REAL
#undef strdup
#define malloc(size) wsgi_faults_malloc(size)
#define calloc(count, size) wsgi_faults_calloc(count, size)
#define realloc(memory, size) wsgi_faults_realloc(memory, size)
#define strdup(text) wsgi_faults_strdup(text)
#define free(memory) wsgi_faults_free(memory)
#define pthread_create(thread, attributes, run, argument) \
	wsgi_faults_thread(thread, attributes, run, argument)
#define eventfd(initial, flags) wsgi_faults_eventfd(initial, flags)
#define open(path, flags) wsgi_faults_open(path, flags)
#define dlopen(path, flags) wsgi_faults_dlopen(path, flags)
#endif

#endif
#endif
