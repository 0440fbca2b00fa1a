// The FlatBuffer head, from bytes to objects and back.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::format {

// Checks the bytes with FlatBuffers' verifier (bounds, alignment, depth, number of tables) and then walks
// every field by the schema's own type tables: enums and union members in range, floats finite, and no part
// shared by several parents, since unpacking copies it for each and a small hostile head would fill the
// memory. `bytes` must be aligned to 8. Errors: kInvalidFile, kUnsupported (an op this build does not know),
// kOutOfMemory.
Result<std::unique_ptr<fb::ModelT>> decode_head(std::span<const std::byte> bytes);

Result<std::vector<std::byte>> encode_head(const fb::ModelT& model);

// Whether a device may round the factors of this method's products to f16. Files from before Method.products
// (ByName) had it by the name: all methods but a picture's decoder, whose many layers would add the errors
// up.
bool half_products(const fb::MethodT& method);

}  // namespace linnet::format
