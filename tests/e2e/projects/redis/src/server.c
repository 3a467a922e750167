/* PING, SET key value, GET key, SAVE; one client at a time. */
#include "line.h"

static char keys[64][LENGTH], values[64][LENGTH];
static int count;

static char *find(const char *key)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(keys[i], key))
            return values[i];
    return NULL;
}

static void serve(FILE *client)
{
    char line[3 * LENGTH], verb[LENGTH] = "", key[LENGTH] = "", value[LENGTH] = "";

    if (!fgets(line, sizeof line, client))
        return;
    sscanf(line, "%255s %255s %255s", verb, key, value);
    if (!strcmp(verb, "PING")) {
        fprintf(client, "PONG\n");
    } else if (!strcmp(verb, "SET") && count < 64) {
        char *found = find(key);
        if (!found) {
            strcpy(keys[count], key);
            found = values[count++];
        }
        strcpy(found, value);
        fprintf(client, "OK\n");
    } else if (!strcmp(verb, "GET")) {
        char *found = find(key);
        fprintf(client, "%s\n", found ? found : "(nil)");
    } else if (!strcmp(verb, "SAVE")) {
        FILE *dump = fopen("dump.rdb", "w");
        for (int i = 0; dump && i < count; i++)
            fprintf(dump, "%s %s\n", keys[i], values[i]);
        fprintf(client, dump && !fclose(dump) ? "OK\n" : "ERR\n");
    } else {
        fprintf(client, "ERR unknown command\n");
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = loopback();
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc > 1 && !strcmp(argv[1], "--version"))
        return puts("Redis server v=0.1") < 0;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16))
        return perror("listen"), 1;
    puts("Ready to accept connections");
    fflush(stdout);
    for (;;) {
        FILE *client = fdopen(accept(listener, NULL, NULL), "r+");
        if (client) {
            serve(client);
            fclose(client);
        }
    }
}
