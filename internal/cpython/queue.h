/* The queue of an interpreter, as its workers see it. */
#ifndef WSGI_QUEUE_H
#define WSGI_QUEUE_H

#include "interpreter.h"

/* wsgi_queue_next returns the next request, or NULL when the interpreter stops.
 * It is called with the GIL held and returns with it held, but lets go of it
 * wherever it might wait. wsgi_queue_done finishes the request. */
struct wsgi_request *wsgi_queue_next(struct wsgi_worker *worker);
void wsgi_queue_done(struct wsgi_worker *worker, struct wsgi_request *request, int outcome);
/* wsgi_queue_stop lets workers find no more requests once the queue is empty. */
void wsgi_queue_stop(struct wsgi_interpreter *interpreter);

#endif
