// Which goldens there are: tests/golden/list.txt, an entry a line ("language/llama"). A golden that vanished
// would take its test with it, and one that nobody listed may be read by none.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace linnet::testing {

// The names that the list has in a folder of tests/golden ("" is tests/golden itself), in order. Fails the
// test unless they are the folder's entries, all of them.
inline std::vector<std::string> listed_goldens(const std::string& folder) {
  const std::string prefix = folder.empty() ? "" : folder + "/";
  std::vector<std::string> listed, present;
  std::ifstream list(LINNET_GOLDEN "/list.txt");
  for (std::string line; std::getline(list, line);)
    if (line.starts_with(prefix) && line.find('/', prefix.size()) == std::string::npos)
      listed.push_back(line.substr(prefix.size()));
  const std::filesystem::path path = std::filesystem::path(LINNET_GOLDEN) / folder;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (!folder.empty() || !entry.is_directory()) present.push_back(entry.path().filename().string());
  std::ranges::sort(listed);
  std::ranges::sort(present);
  for (const std::string& name : listed)
    CHECK_MESSAGE(std::ranges::binary_search(present, name), "tests/golden/", prefix, name,
                  " is in list.txt and not there");
  for (const std::string& name : present)
    CHECK_MESSAGE(std::ranges::binary_search(listed, name), "tests/golden/", prefix, name,
                  " is there and not in list.txt");
  REQUIRE(listed == present);
  REQUIRE_FALSE(listed.empty());
  return listed;
}

}  // namespace linnet::testing
