/* Starting, running and stopping an interpreter's workers. */
#ifndef WSGI_WORKER_H
#define WSGI_WORKER_H

#include "interpreter.h"

/* wsgi_worker_serve runs requests until the interpreter stops. The worker's
 * thread state is attached, before and after. */
void wsgi_worker_serve(struct wsgi_worker *worker);
/* wsgi_worker_name names the calling thread, for top and gdb. */
void wsgi_worker_name(struct wsgi_worker *worker);
/* wsgi_workers_start starts all workers but the first: 0 or an errno. */
int wsgi_workers_start(struct wsgi_interpreter *interpreter);

#endif
