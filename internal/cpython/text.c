//go:build cgo && !windows

/* Texts on the heap, and what stands for them where there is no heap left. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "faults.h"
#include "gateway.h"

static char no_memory[] = "out of memory";

char *wsgi_format(const char *format, ...)
{
	char *text = NULL;
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (n >= 0 && (text = malloc((size_t)n + 1)) != NULL) {
		va_start(arguments, format);
		vsnprintf(text, (size_t)n + 1, format, arguments);
		va_end(arguments);
	}
	return text != NULL ? text : no_memory;
}

char *wsgi_text_no_memory(void)
{
	return no_memory;
}

void wsgi_text_free(char *text)
{
	if (text != no_memory)
		free(text);
}
