#pragma once
#include <string>
#include <vector>

namespace fmt {
std::string join(const std::vector<std::string> &words, const std::string &between);
}
