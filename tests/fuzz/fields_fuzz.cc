// Heads of model files in which single fields are changed and everything else is valid (lnt_mutator.h): what
// is verified is planned and run by the reference and the cpu backend, at and below the bounds of its
// symbols.
#include <cstring>
#include <random>

#include "format/container.h"
#include "tests/fuzz/lnt_mutator.h"
#include "tests/fuzz/model_run.h"

using namespace linnet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto head = std::as_bytes(std::span(data, size));
  fuzz::run_file(fuzz::file_of_head(head), format::checksum(head));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  std::mt19937_64 random(seed);
  const fuzz::Mutant mutant = fuzz::mutate_head(std::as_bytes(std::span(data, size)), random);
  if (mutant.head.empty() || mutant.head.size() > max_size) return size;
  std::memcpy(data, mutant.head.data(), mutant.head.size());
  return mutant.head.size();
}
