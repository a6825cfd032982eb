/* keeper.c: fork once, before there are threads; then wait. */
#include "tui/keeper.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t drawer;        /* in the keeper */
static int to_keeper = -1;           /* in the one that draws */

static const int passed_on[] = { SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGCONT, SIGUSR1, SIGUSR2 };

static void pass_on(int number)
{
    const int before = errno;
    if (drawer > 0)
        kill(drawer, number);
    errno = before;
}

static void take_signals(void)
{
    struct sigaction now, ours = { .sa_handler = pass_on };
    sigemptyset(&ours.sa_mask);
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
        if (sigaction(passed_on[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)     /* nohup stays nohup */
            sigaction(passed_on[i], &ours, NULL);
}

/* As the one that drew ended, so ends the keeper: by the same signal too. */
static int end_as(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    struct sigaction standard = { .sa_handler = SIG_DFL };
    sigemptyset(&standard.sa_mask);
    sigaction(WTERMSIG(status), &standard, NULL);
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

static int keep(int from_drawer)
{
    unsigned char status;
    ssize_t n;
    int ended = 0;
    do
        n = read(from_drawer, &status, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return status;               /* it goes on alone */
    while (waitpid(drawer, &ended, 0) < 0)
        if (errno != EINTR)
            return 1;
    return end_as(ended);
}

int keeper_begin(void)
{
    int ends[2];
    const pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    take_signals();
    const pid_t made = fork();
    if (made > 0) {
        drawer = made;
        close(ends[1]);
        return keep(ends[0]);
    }
    struct sigaction standard = { .sa_handler = SIG_DFL }, now;
    sigemptyset(&standard.sa_mask);
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
        if (sigaction(passed_on[i], NULL, &now) == 0 && now.sa_handler == pass_on)
            sigaction(passed_on[i], &standard, NULL);
    close(ends[0]);
    if (made < 0) {
        close(ends[1]);
        return -1;
    }
    to_keeper = ends[1];
    prctl(PR_SET_PDEATHSIG, SIGTERM);        /* a keeper that is killed takes it along, in order */
    if (getppid() != self)
        raise(SIGTERM);
    return -1;
}

void keeper_let_go(int status)
{
    const unsigned char byte = (unsigned char)status;
    prctl(PR_SET_PDEATHSIG, 0);
    signal(SIGHUP, SIG_IGN);
    setsid();                                /* fails for a group leader: then there was no keeper */
    const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2 && nowhere >= 0; fd++)
        dup2(nowhere, fd);
    if (nowhere > 2)
        close(nowhere);
    if (to_keeper >= 0) {
        while (write(to_keeper, &byte, 1) < 0 && errno == EINTR)
            ;
        close(to_keeper);
        to_keeper = -1;
    }
}
