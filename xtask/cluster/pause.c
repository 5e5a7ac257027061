/* Holds namespaces open: a pod's, and (with the cluster's folder as its argument, which is only there to be seen in
 * the process list) the whole cluster's. As process 1 of its namespace it inherits orphans and has to reap them. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, NULL, WNOHANG) > 0); }

int main(void) {
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
