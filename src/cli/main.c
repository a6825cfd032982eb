/* main.c: the program as one process; src/cli/mpi.c is its counterpart for several. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return program(argc, argv, program_run);
}
