/* One request as Python sees it: what the parts of the C side that make up an
 * exchange share. */
#ifndef WSGI_EXCHANGE_H
#define WSGI_EXCHANGE_H

#include "interpreter.h"
#include "request.h"

/* Bytes that grow: a line of unknown length, a log record in the making. Empty
 * when zero; data is the owner's to free. */
struct wsgi_buffer {
	char *data;
	size_t size, capacity;
};

/* wsgi_buffer_append returns -1 with a MemoryError where memory is short. */
int wsgi_buffer_append(struct wsgi_buffer *buffer, const char *data, size_t size);

/* The data of an exchange object. wsgi.input, wsgi.errors, start_response and
 * write() each hold a reference to it, so it may outlive its request: then
 * request is NULL, and all of them refuse to work. */
struct wsgi_exchange {
	struct wsgi_interpreter *interpreter;
	struct wsgi_request *request;
	int users; /* calls under way that let go of the GIL; guarded by request->lock */

	/* The response. */
	struct wsgi_record *head; /* what start_response gave, until it is sent */
	int started, head_sent;
	int status;
	int bodiless;           /* HEAD, 204, 304 */
	int64_t content_length; /* as the application or wsgi_response_list set it, or -1 */
	int64_t sent;           /* bytes of body produced */
	int excess_logged;

	/* wsgi.input */
	size_t body_read;
	int64_t input_consumed;

	struct wsgi_buffer log; /* wsgi.errors: a record in the making */
};

static inline struct wsgi_exchange *wsgi_exchange_of(PyObject *self)
{
	return wsgi_object_data(self);
}

/* wsgi_exchange_enter begins a call that may let go of the GIL, so that the
 * request can't end under it. It raises RuntimeError and returns -1 where the
 * request is over. wsgi_exchange_leave ends the call. */
int wsgi_exchange_enter(struct wsgi_exchange *exchange, const char *what);
void wsgi_exchange_leave(struct wsgi_exchange *exchange);

/* wsgi_object_free is the end of each of our types' tp_dealloc. */
void wsgi_object_free(PyObject *self);

/* wsgi_log adds a log record; text is UTF-8. */
void wsgi_log(struct wsgi_request *request, int level, const char *text, size_t size);
void wsgi_log_format(struct wsgi_request *request, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- environ.c: a new dict, or NULL with an exception set ---------------- */

PyObject *wsgi_environ_new(struct wsgi_interpreter *interpreter, struct wsgi_request *request);

/* ---- input.c, errors.c, file.c: the types, and their instances ----------- */

PyObject *wsgi_exchange_type(void);
PyObject *wsgi_input_type(void);
PyObject *wsgi_input_new(PyObject *exchange);
PyObject *wsgi_errors_type(void);
PyObject *wsgi_errors_new(PyObject *exchange);
/* wsgi_errors_flush emits what was written without a newline so far. */
void wsgi_errors_flush(struct wsgi_exchange *exchange);
PyObject *wsgi_file_type(void);
/* wsgi_file_wrapper returns the callable for wsgi.file_wrapper. */
PyObject *wsgi_file_wrapper(struct wsgi_interpreter *interpreter);

/* ---- refusals.c ---------------------------------------------------------- */

/* wsgi_refusals_new makes what bootstrap.py tells of refusing modules.
 * wsgi_refusals_end lets it forget where to: whoever still has it is not heard. */
PyObject *wsgi_refusals_new(struct wsgi_interpreter *interpreter);
void wsgi_refusals_end(PyObject *self);

/* ---- headers.c ----------------------------------------------------------- */

/* wsgi_status_parse returns the number of a status line, or -1 with an
 * exception. wsgi_headers_pack makes a record of a list of headers, or NULL with
 * an exception; with hints set, of the Link headers alone. */
int wsgi_status_parse(PyObject *object);
struct wsgi_record *wsgi_headers_pack(struct wsgi_request *request, PyObject *headers, int hints,
				      int64_t *content_length);

/* ---- start_response.c ---------------------------------------------------- */

PyObject *wsgi_start_response_new(PyObject *exchange);
PyObject *wsgi_early_hints_new(PyObject *exchange);

/* ---- response.c ---------------------------------------------------------- */

enum wsgi_sent {
	WSGI_SENT_OK = 0,
	WSGI_SENT_FAILED, /* a Python exception is set */
	WSGI_SENT_GONE,   /* the client left: there is no use in going on */
};

/* wsgi_check_bytes raises a TypeError for what isn't bytes, and returns -1. */
int wsgi_check_bytes(PyObject *chunk, const char *what);
/* wsgi_response_chunk sends one chunk, which the caller holds a reference to. */
int wsgi_response_chunk(struct wsgi_exchange *exchange, PyObject *chunk);
/* wsgi_response_list sends all of a list or tuple, wsgi_response_iterable the
 * chunks of an iterable one by one, wsgi_response_file a file by its
 * descriptor: it returns -1 where the wrapped object isn't a real file, and
 * has sent nothing then. */
int wsgi_response_list(struct wsgi_exchange *exchange, PyObject *result);
int wsgi_response_iterable(struct wsgi_exchange *exchange, PyObject *result);
int wsgi_response_file(struct wsgi_exchange *exchange, PyObject *result);
/* wsgi_response_end sends the head if the body was empty and checks that all
 * that was promised has been produced. It returns 0, or -1 where the answer
 * is shorter than its Content-Length. */
int wsgi_response_end(struct wsgi_exchange *exchange);
/* wsgi_response_head sends the head with a Content-Length, unless that is -1
 * or the application gave one. */
int wsgi_response_head(struct wsgi_exchange *exchange, int64_t content_length);
/* wsgi_file_descriptor looks for a real file behind a file wrapper: 1 and the
 * file's reopened descriptor, position and remaining size; 0 if there is none. */
int wsgi_file_descriptor(struct wsgi_interpreter *interpreter, PyObject *wrapper, int *descriptor,
			 int64_t *position, int64_t *remaining);

#endif
