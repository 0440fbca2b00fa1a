#include "tests/goldens.h"

using namespace linnet::testing;

TEST_CASE("every golden is listed, and every listed golden is there") {
  listed_goldens("");
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(LINNET_GOLDEN))
    if (entry.is_directory()) folders.push_back(entry.path().filename().string());
  std::ranges::sort(folders);
  CHECK(folders == std::vector<std::string>{"field", "gguf", "image", "language", "ops", "readers", "text"});
  for (const std::string& folder : folders) {
    CAPTURE(folder);
    for (const std::string& name : listed_goldens(folder)) {
      CAPTURE(name);
      // A folder that lost its files is no golden either.
      const std::filesystem::path path = std::filesystem::path(LINNET_GOLDEN) / folder / name;
      CHECK_FALSE(std::filesystem::is_empty(path));
      if (folder == "language")
        for (const char* file : {"manifest.json", "reference.safetensors", "model/config.json"})
          CHECK(std::filesystem::exists(path / file));
    }
  }
}
