// Every allocation of a conversion is refused once: an error or success, no leak, and no file of a conversion
// that failed.
#include <filesystem>

#include "tests/faults/allocations.h"
#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

void convert_without_memory(const std::string& source, bool self_test, int64_t most) {
  const std::filesystem::path folder = scratch() / "conversion";
  convert::ConvertOptions options;
  options.source = LINNET_GOLDEN "/" + source;
  options.output = (folder / "model.lnt").string();
  options.quantize = "q8";
  options.self_test = self_test;
  options.reference = &reference_backend();
  options.backend = &cpu();
  try_every_allocation(
      {source, [&]() -> Result<void> { return done(convert::convert(options)); },
       [&] {
         std::filesystem::remove_all(folder);
         std::filesystem::create_directory(folder);
       },
       [&](bool succeeded) {
         int files = 0;
         for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
         REQUIRE(files == (succeeded ? 1 : 0));
       },
       true},
      most);
}

}  // namespace

TEST_CASE("converting a folder without memory") {
  convert_without_memory("language/naive_window_linear/model", false, 400);
}
TEST_CASE("converting a folder and testing the result without memory") {
  convert_without_memory("language/naive_window_linear/model", true, 100);
}
TEST_CASE("converting a GGUF file without memory") { convert_without_memory("gguf/mamba2.gguf", false, 400); }
TEST_CASE("converting an image folder without memory") {
  convert_without_memory("image/sana_pipeline/model", false, 100);
}

}  // namespace linnet::test
