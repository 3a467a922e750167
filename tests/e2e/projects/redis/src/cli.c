#include "line.h"

int main(int argc, char **argv)
{
    struct sockaddr_in address = loopback();
    int server = socket(AF_INET, SOCK_STREAM, 0);
    char answer[LENGTH];

    if (connect(server, (struct sockaddr *)&address, sizeof address))
        return perror("Could not connect to Redis"), 1;
    for (int i = 1; i < argc; i++)
        dprintf(server, "%s%c", argv[i], i + 1 < argc ? ' ' : '\n');
    for (ssize_t size; (size = read(server, answer, sizeof answer)) > 0;)
        fwrite(answer, 1, size, stdout);
    return 0;
}
