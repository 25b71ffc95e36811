/* Runs the C side without Go, so that callgrind can count its instructions: Go
 * programs don't run under valgrind. Requests are those of a small GET, one
 * after another, of one interpreter with one worker.
 *
 *     instructions LIBRARY MINOR OBJECT_SIZE EXECUTABLE PREFIX BOOTSTRAP APPS COUNT
 *
 * BOOTSTRAP is the path of bootstrap.py, APPS the folder with plain.py in it. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../internal/cpython/gateway.h"

/* What Go would send for "GET /?q=1" of a client that says who it is; keys go
 * by their number in this list, which starts at 1. */
static const char *const variables[][2] = {
	{"REQUEST_METHOD", "GET"},
	{"SCRIPT_NAME", ""},
	{"PATH_INFO", "/"},
	{"QUERY_STRING", "q=1"},
	{"SERVER_NAME", "127.0.0.1"},
	{"SERVER_PORT", "8080"},
	{"SERVER_PROTOCOL", "HTTP/1.1"},
	{"SERVER_SOFTWARE", "Go"},
	{"GATEWAY_INTERFACE", "CGI/1.1"},
	{"REMOTE_ADDR", "127.0.0.1"},
	{"REMOTE_PORT", "50000"},
	{"REQUEST_URI", "/?q=1"},
	{"RAW_URI", "/?q=1"},
	{"wsgi.url_scheme", "http"},
	{"HTTP_HOST", "127.0.0.1:8080"},
	{"HTTP_USER_AGENT", "benchmark"},
	{"HTTP_ACCEPT", "*/*"},
};
enum { VARIABLES = sizeof variables / sizeof *variables, KEY_SHIFT = 24 };

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void check(const char *what, char *error)
{
	if (error != NULL)
		fail(what, error);
}

static void *memory(void *pointer)
{
	if (pointer == NULL)
		fail("memory", "there is none left");
	return pointer;
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		fail(path, "can't be read");
	long size = ftell(file);
	char *data = memory(calloc(1, (size_t)size + 1));
	rewind(file);
	if (fread(data, 1, (size_t)size, file) != (size_t)size)
		fail(path, "can't be read");
	fclose(file);
	return data;
}

/* strings packs a list as it crosses to C. */
static struct wsgi_strings strings(const char *const *list, size_t count)
{
	size_t total = 0;
	uint32_t *sizes = memory(calloc(count, sizeof *sizes));
	for (size_t i = 0; i < count; i++)
		total += sizes[i] = (uint32_t)strlen(list[i]);
	char *data = memory(malloc(total + 1)), *end = data;
	for (size_t i = 0; i < count; i++) {
		memcpy(end, list[i], sizes[i]);
		end += sizes[i];
	}
	return (struct wsgi_strings){data, sizes, count};
}

/* environ packs the variables as package pool does, and returns its size. */
static size_t environ_pack(char *buffer)
{
	char *end = buffer;
	for (uint32_t i = 0; i < VARIABLES; i++) {
		uint32_t head[2] = {(i + 1) << KEY_SHIFT, (uint32_t)strlen(variables[i][1])};
		memcpy(end, head, sizeof head);
		memcpy(end + sizeof head, variables[i][1], head[1]);
		end += sizeof head + head[1];
	}
	return (size_t)(end - buffer);
}

/* collect waits until the request is over, as the collector in Go does. */
static void collect(struct wsgi_completions *completions)
{
	for (;;) {
		__atomic_store_n(&completions->sleeping, 1, __ATOMIC_SEQ_CST);
		struct wsgi_request *request =
			__atomic_exchange_n(&completions->head, NULL, __ATOMIC_SEQ_CST);
		if (request == NULL) {
			struct pollfd descriptor = {completions->read_descriptor, POLLIN, 0};
			poll(&descriptor, 1, -1);
			uint64_t count;
			if (read(completions->read_descriptor, &count, sizeof count) < 0)
				continue;
			continue;
		}
		uint32_t flags = __atomic_exchange_n(&request->flags, 0, __ATOMIC_SEQ_CST);
		if ((flags & WSGI_REQUEST_FINISHED) == 0)
			continue;
		if (request->outcome != WSGI_OUTCOME_COMPLETE)
			fail("the application", "has not answered");
		return;
	}
}

int main(int argc, char **argv)
{
	if (argc != 9)
		fail("usage", "instructions LIBRARY MINOR OBJECT_SIZE EXECUTABLE PREFIX BOOTSTRAP "
			      "APPS COUNT");
	int joined, again;
	check("load", wsgi_python_load(argv[1], atoi(argv[3])));
	check("start", wsgi_python_start(argv[4], atoi(argv[2]), &joined, &again));

	const char *settings[] = {"module",     "plain", "callable",  "application",
				  "path",       argv[7], "prefix",    argv[5],
				  "argv",       "plain", "isolation", "OwnGIL",
				  "executable", argv[4], "with_env",  "PYTHONHASHSEED=0"};
	const char *keys[VARIABLES + 1] = {""};
	for (int i = 0; i < VARIABLES; i++)
		keys[i + 1] = variables[i][0];
	struct wsgi_strings packed_settings = strings(settings, sizeof settings / sizeof *settings);
	struct wsgi_strings packed_keys = strings(keys, VARIABLES + 1);

	struct wsgi_completions *completions = memory(wsgi_completions_new());
	struct wsgi_request *notices = memory(wsgi_request_new(completions, 0));
	struct wsgi_interpreter *interpreter =
		memory(wsgi_interpreter_new(WSGI_ISOLATION_OWN_GIL, 0, 1, 0, completions, notices,
					    read_file(argv[6]), &packed_settings, &packed_keys));
	check("interpreter", wsgi_interpreter_start(interpreter));

	static char environ[4096];
	size_t size = environ_pack(environ);
	struct wsgi_request *request = memory(wsgi_request_new(completions, 1));
	for (int i = atoi(argv[8]); i > 0; i--) {
		request->content_length = 0;
		request->output_limit = 1 << 20;
		request->early_hints = 1;
		if (wsgi_request_submit(request, interpreter, environ, size) < 0)
			fail("submit", "refused");
		collect(completions);
		wsgi_request_reset(request);
	}
	check("stop", wsgi_interpreter_stop(interpreter));
	wsgi_request_free(request);
	wsgi_interpreter_free(interpreter);
	wsgi_request_free(notices);
	wsgi_completions_free(completions);
	return 0;
}
