#include <fmt/join.h>

int main()
{
    return fmt::join({"a", "b"}, ", ") == "a, b" && fmt::join({}, "x").empty() ? 0 : 1;
}
