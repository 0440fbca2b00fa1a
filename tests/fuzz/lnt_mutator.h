// Changes of single fields of a model file's head, everything else valid: found by the schema's own type
// tables, so that a field added to the schema is changed too without a line here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "format/model_generated.h"

namespace linnet::fuzz {

// A whole model file: `head` behind an area of small floats that holds every weight segment (at most `most`
// bytes of it).
std::vector<std::byte> file_of_head(std::span<const std::byte> head, size_t most = size_t{16} << 20);

// Places all weights anew, one after another in one segment, with the bytes that their types and shapes need.
void lay_out_weights(linnet::fb::ModelT& model);

struct Mutant {
  std::vector<std::byte> head;  // empty: the head could not be read
  std::string what;             // the change, for a person
};

// One change (sometimes two or three) of a head that decodes: a scalar, an enum, an element of a vector, a
// vector's length, all occurrences of one size, all dimensions of one symbol, the type of a matrix.
// Deterministic in `random`.
Mutant mutate_head(std::span<const std::byte> head, std::mt19937_64& random);

}  // namespace linnet::fuzz
