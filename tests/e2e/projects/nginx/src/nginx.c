/* Serves the files of one directory; SIGQUIT ends it in good order. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile sig_atomic_t quit;
static int listener;

static void on_quit(int number)
{
    (void)number;
    quit = 1;
    /* accept(2) returns, also one that begins only now. */
    shutdown(listener, SHUT_RDWR);
}

static void serve(int client, const char *root, FILE *log)
{
    char request[4096], path[4096] = "", name[8192];
    struct stat found;
    ssize_t size = read(client, request, sizeof request - 1);

    if (size <= 0)
        return;
    request[size] = 0;
    sscanf(request, "GET %4095s", path);
    snprintf(name, sizeof name, "%s%s", root, strcmp(path, "/") ? path : "/index.html");
    int file = strstr(path, "..") ? -1 : open(name, O_RDONLY);
    if (file < 0 || fstat(file, &found)) {
        dprintf(client, "HTTP/1.0 404 Not Found\r\n\r\n");
    } else {
        dprintf(client, "HTTP/1.0 200 OK\r\nServer: nginx\r\nContent-Length: %ld\r\n\r\n", (long)found.st_size);
        while (sendfile(client, file, NULL, 65536) > 0)
            ;
        close(file);
    }
    fprintf(log, "\"GET %s\" %d\n", path, file < 0 ? 404 : 200);
    fflush(log);
}

int main(void)
{
    char key[64], value[256], root[256] = "html", log_name[256] = "/dev/stdout";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sigaction action = {.sa_handler = on_quit};
    int yes = 1;
    FILE *configuration = fopen(CONF, "r");

    while (configuration && fscanf(configuration, "%63s %255s", key, value) == 2)
        strcpy(strcmp(key, "root") ? log_name : root, value);
    FILE *log = fopen(log_name, "w");
    if (!configuration || !log)
        return perror(CONF), 1;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    sigaction(SIGQUIT, &action, NULL);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64))
        return perror("bind"), 1;
    while (!quit) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        serve(client, root, log);
        close(client);
    }
    fprintf(log, "gracefully shutting down\n");
    return fclose(log);
}
