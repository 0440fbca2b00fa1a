// Converts a checkpoint for the tests in C, which have no converter.
//
// usage: linnet_c_model CHECKPOINT OUT
#include <cstdio>

#include "converter/convert.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s CHECKPOINT OUT\n", argv[0]);
    return 2;
  }
  linnet::convert::ConvertOptions options;
  options.source = argv[1];
  options.output = argv[2];
  options.quantize = "f32";
  options.self_test = false;
  const auto report = linnet::convert::convert(options);
  if (!report) std::fprintf(stderr, "%s\n", report.error().message.c_str());
  return report ? 0 : 1;
}
