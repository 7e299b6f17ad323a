/* Makes any program that uses OpenSSL 1.1.1 or later log its TLS and DTLS secrets to $SSLKEYLOGFILE, as browsers do.
 *
 *     cc -shared -fPIC -o keylog.so keylog.c -ldl; LD_PRELOAD=./keylog.so SSLKEYLOGFILE=keys.log PROGRAM
 *
 * Every SSL_CTX gets a keylog callback when it is made. A line is written whole, so that several programs may share a file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*keylog_callback)(const void *ssl, const char *line);

static void keep(const void *ssl, const char *line) {
  const char *path = getenv("SSLKEYLOGFILE");
  char text[1024];
  int length = snprintf(text, sizeof text, "%s\n", line);
  (void)ssl;
  if (path == NULL || length <= 0 || (size_t)length >= sizeof text) return;
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  if (write(file, text, (size_t)length) != length) perror(path);
  close(file);
}

void *SSL_CTX_new(const void *method) {
  void *(*make)(const void *) = (void *(*)(const void *))dlsym(RTLD_NEXT, "SSL_CTX_new");
  void (*set)(void *, keylog_callback) = (void (*)(void *, keylog_callback))dlsym(RTLD_NEXT, "SSL_CTX_set_keylog_callback");
  void *context = make(method);
  if (context != NULL && set != NULL) set(context, keep);
  return context;
}
