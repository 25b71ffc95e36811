//go:build cgo && !windows

/* One request, from its environ to close(): what PEP 3333 calls the server's
 * side of the protocol. */
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

int wsgi_exchange_enter(struct wsgi_exchange *exchange, const char *what)
{
	if (exchange->request == NULL) {
		py.PyErr_Format(py.PyExc_RuntimeError, "%s was used after its request had ended",
				what);
		return -1;
	}
	pthread_mutex_lock(&exchange->request->lock);
	exchange->users++;
	pthread_mutex_unlock(&exchange->request->lock);
	return 0;
}

void wsgi_exchange_leave(struct wsgi_exchange *exchange)
{
	struct wsgi_request *request = exchange->request;
	pthread_mutex_lock(&request->lock);
	exchange->users--;
	pthread_cond_broadcast(&request->changed);
	pthread_mutex_unlock(&request->lock);
}

/* wait_users waits for other threads' calls into this request. They hold the
 * GIL until they have left, so once it is held again here none is inside. */
static void wait_users(struct wsgi_exchange *exchange)
{
	struct wsgi_request *request = exchange->request;
	pthread_mutex_lock(&request->lock);
	int busy = exchange->users > 0;
	pthread_mutex_unlock(&request->lock);
	if (!busy)
		return;
	/* They wait for a client that has no more to wait for. */
	STORE(&request->gone, 1);
	PyThreadState *state = py.PyEval_SaveThread();
	pthread_mutex_lock(&request->lock);
	pthread_cond_broadcast(&request->changed);
	while (exchange->users > 0)
		pthread_cond_wait(&request->changed, &request->lock);
	pthread_mutex_unlock(&request->lock);
	py.PyEval_RestoreThread(state);
}

static void exchange_dealloc(PyObject *self)
{
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	free(exchange->log.data);
	if (exchange->interpreter != NULL)
		ADD(&exchange->interpreter->exchanges, -1);
	wsgi_object_free(self);
}

void wsgi_object_free(PyObject *self)
{
	PyObject *type = py.PyObject_Type(self);
	void (*release)(void *);
	void *slot = py.PyType_GetSlot(type, Py_tp_free);
	memcpy(&release, &slot, sizeof release);
	release(self);
	py.Py_DecRef(type); /* ours */
	py.Py_DecRef(type); /* the instance's */
}

PyObject *wsgi_exchange_type(void)
{
	PyType_Slot slots[] = {
		{Py_tp_dealloc, (void *)exchange_dealloc},
		{Py_tp_doc, (void *)"A request and its response."},
		{0, NULL},
	};
	PyType_Spec spec = {"wsgi.Exchange", py.object_size + (int)sizeof(struct wsgi_exchange), 0,
			    (unsigned)Py_TPFLAGS_DEFAULT, slots};
	return py.PyType_FromSpec(&spec);
}

static PyObject *exchange_new(struct wsgi_interpreter *interpreter, struct wsgi_request *request)
{
	PyObject *self = py.PyType_GenericAlloc(interpreter->objects.type_exchange, 0);
	if (self == NULL)
		return NULL;
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	ADD(&interpreter->exchanges, 1);
	exchange->interpreter = interpreter;
	exchange->request = request;
	exchange->content_length = -1;
	return self;
}

/* set_item puts a new reference into a dict, and takes it. */
static int set_item(PyObject *dict, PyObject *key, PyObject *value)
{
	if (value == NULL)
		return -1;
	int result = py.PyDict_SetItem(dict, key, value);
	py.Py_DecRef(value);
	return result;
}

/* call runs the application: a new reference to its result, or NULL. */
static PyObject *call(struct wsgi_interpreter *interpreter, struct wsgi_request *request,
		      PyObject *self)
{
	struct wsgi_objects *objects = &interpreter->objects;
	PyObject *environ = wsgi_environ_new(interpreter, request);
	if (environ == NULL)
		return NULL;
	PyObject *result = NULL;
	PyObject *start_response = wsgi_start_response_new(self);
	if (start_response != NULL &&
	    set_item(environ, objects->str_input, wsgi_input_new(self)) == 0 &&
	    set_item(environ, objects->str_errors, wsgi_errors_new(self)) == 0 &&
	    set_item(environ, objects->str_early_hints, wsgi_early_hints_new(self)) == 0)
		result = py.PyObject_CallFunctionObjArgs(objects->application, environ,
							 start_response, NULL);
	if (start_response != NULL)
		py.Py_DecRef(start_response);
	py.Py_DecRef(environ);
	return result;
}

/* check_result raises a TypeError for what can't be a response: None, and the
 * strings, whose items would be sent one by one or be numbers. */
static int check_result(struct wsgi_interpreter *interpreter, PyObject *result)
{
	const char *advice;
	if (result == interpreter->objects.none)
		advice = "None: it must return an iterable of bytes";
	else if (wsgi_type_flags(result) & Py_TPFLAGS_BYTES_SUBCLASS)
		advice = "bytes: it must return an iterable of bytes, such as [body]";
	else if (wsgi_type_flags(result) & Py_TPFLAGS_UNICODE_SUBCLASS)
		advice = "str: it must return an iterable of bytes, such as [body.encode('utf-8')]";
	else
		return 0;
	py.PyErr_Format(py.PyExc_TypeError, "the application returned %s", advice);
	return -1;
}

/* is_sequence reports whether the response is a list or tuple that can be taken
 * as it is: a subclass may have an iterator of its own. */
static int is_sequence(struct wsgi_objects *objects, PyObject *result)
{
	if (wsgi_is_exactly(result, objects->type_list) ||
	    wsgi_is_exactly(result, objects->type_tuple))
		return 1;
	unsigned long flags = wsgi_type_flags(result);
	if ((flags & (Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS)) == 0)
		return 0;
	PyObject *base =
		flags & Py_TPFLAGS_LIST_SUBCLASS ? objects->type_list : objects->type_tuple;
	PyObject *type = py.PyObject_Type(result);
	PyObject *own = py.PyObject_GetAttrString(type, "__iter__");
	PyObject *inherited = own != NULL ? py.PyObject_GetAttrString(base, "__iter__") : NULL;
	int same = own != NULL && own == inherited;
	py.PyErr_Clear();
	PyObject *owned[] = {type, own, inherited};
	for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
		if (owned[i] != NULL)
			py.Py_DecRef(owned[i]);
	}
	return same;
}

static int send(struct wsgi_exchange *exchange, PyObject *result)
{
	if (check_result(exchange->interpreter, result) != 0)
		return WSGI_SENT_FAILED;
	if (is_sequence(&exchange->interpreter->objects, result))
		return wsgi_response_list(exchange, result);
	if (wsgi_is_exactly(result, exchange->interpreter->objects.type_file)) {
		int sent = wsgi_response_file(exchange, result);
		if (sent >= 0)
			return sent;
	}
	return wsgi_response_iterable(exchange, result);
}

/* log_exception takes the current exception into the request's log. A client
 * that left is no fault of the application's. */
static void log_exception(struct wsgi_exchange *exchange, const char *where)
{
	struct wsgi_interpreter *interpreter = exchange->interpreter;
	wsgi_errors_flush(exchange); /* what was written before comes before */
	int gone = py.PyErr_ExceptionMatches(interpreter->objects.client_gone);
	char *text = wsgi_exception_text(interpreter);
	char *message = wsgi_format("%s\n%s", where, text);
	wsgi_log(exchange->request, gone ? WSGI_LOG_INFO : WSGI_LOG_ERROR, message,
		 strlen(message));
	wsgi_text_free(message);
	wsgi_text_free(text);
}

/* close_result calls the result's close(), if it has one: once, whatever came
 * before. */
static void close_result(struct wsgi_exchange *exchange, PyObject *result)
{
	struct wsgi_objects *objects = &exchange->interpreter->objects;
	if (wsgi_is_exactly(result, objects->type_list) ||
	    wsgi_is_exactly(result, objects->type_tuple))
		return; /* without looking: to find no attribute costs an exception */
	PyObject *close = py.PyObject_GetAttr(result, objects->str_close);
	if (close == NULL) {
		if (py.PyErr_ExceptionMatches(py.PyExc_AttributeError))
			py.PyErr_Clear();
		else
			log_exception(exchange, "the response's close can't be looked up");
		return;
	}
	PyObject *closed = py.PyObject_CallFunctionObjArgs(close, NULL);
	py.Py_DecRef(close);
	if (closed != NULL)
		py.Py_DecRef(closed);
	else
		log_exception(exchange, "the response's close() raised an exception");
}

/* respond calls the application and sends what it returns: the outcome. */
static int respond(struct wsgi_exchange *exchange, PyObject *self)
{
	struct wsgi_request *request = exchange->request;
	PyObject *result = call(exchange->interpreter, request, self);
	int sent = result != NULL ? send(exchange, result) : WSGI_SENT_FAILED;
	if (sent == WSGI_SENT_OK) /* an empty body: the head goes out at the end */
		sent = wsgi_response_head(exchange, -1);
	if (sent == WSGI_SENT_FAILED)
		log_exception(exchange, "the application raised an exception");
	int truncated = sent == WSGI_SENT_FAILED;
	if (sent == WSGI_SENT_OK && wsgi_response_end(exchange) != 0)
		truncated = 1;
	if (result != NULL) {
		close_result(exchange, result);
		py.Py_DecRef(result);
	}
	if (sent == WSGI_SENT_GONE)
		return WSGI_OUTCOME_GONE;
	if (!truncated)
		return WSGI_OUTCOME_COMPLETE;
	return exchange->head_sent ? WSGI_OUTCOME_TRUNCATED : WSGI_OUTCOME_FAILED;
}

int wsgi_exchange_run(struct wsgi_interpreter *interpreter, struct wsgi_request *request)
{
	static const char no_memory[] = "the request can't be started: out of memory";
	if (wsgi_request_is_gone(request))
		return WSGI_OUTCOME_GONE; /* nobody waits for it */
	PyObject *self = exchange_new(interpreter, request);
	if (self == NULL) {
		py.PyErr_Clear();
		wsgi_log(request, WSGI_LOG_ERROR, no_memory, sizeof no_memory - 1);
		return WSGI_OUTCOME_FAILED;
	}
	struct wsgi_exchange *exchange = wsgi_exchange_of(self);
	int outcome = respond(exchange, self);

	wait_users(exchange);
	wsgi_errors_flush(exchange);
	if (exchange->head != NULL) {
		wsgi_record_drop(exchange->head);
		exchange->head = NULL;
	}
	exchange->request = NULL; /* whatever the application has kept of it is dead */
	py.Py_DecRef(self);
	return outcome;
}
