#include <fmt/join.h>

namespace fmt {
std::string join(const std::vector<std::string> &words, const std::string &between)
{
    std::string joined;
    for (const auto &word : words)
        joined += (joined.empty() ? "" : between) + word;
    return joined;
}
}
