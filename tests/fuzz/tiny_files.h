// The golden models of tests/golden as model files, made when a fuzz target begins.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "converter/convert.h"
#include "linnet/model.h"

namespace linnet::fuzz {

// Converted into a folder of this process; ends the process if that fails.
inline std::string converted(const std::string& golden, const std::string& quantize = "q8") {
  static const std::filesystem::path folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "linnet-fuzz-XXXXXX").string();
    if (!mkdtemp(name.data())) std::abort();
    return name;
  }();
  std::string name = golden;
  for (char& c : name) c = c == '/' ? '_' : c;
  convert::ConvertOptions options;
  options.source = LINNET_GOLDEN "/" + golden;
  options.output = (folder / (name + ".lnt")).string();
  options.quantize = quantize;
  options.self_test = false;
  if (std::filesystem::exists(options.output)) return options.output;
  if (const auto report = convert::convert(options); !report) {
    std::fprintf(stderr, "%s\n", report.error().message.c_str());
    std::abort();
  }
  return options.output;
}

inline std::shared_ptr<const Model> open_golden(const std::string& golden) {
  auto model = Model::open(converted(golden));
  if (!model) std::abort();
  return *model;
}

}  // namespace linnet::fuzz
