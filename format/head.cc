#include "format/head.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <string>

#include "flatbuffers/minireflect.h"
#include "format/container.h"
#include "format/model_tables.h"
#include "format/names.h"
#include "format/verify.h"
#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

using flatbuffers::ElementaryType;
using flatbuffers::FieldIndexToOffset;
using flatbuffers::ReadScalar;
using flatbuffers::Table;
using flatbuffers::TypeTable;
using flatbuffers::uoffset_t;

// The schema nests five tables at most (model, method, node, arguments, arguments' table).
constexpr uoffset_t kMaxDepth = 16;
constexpr uoffset_t kMaxTables = 2'000'000;

// Walks a verified buffer by the type tables flatc generates, so a table added to the schema is covered
// without a line here.
class HeadWalk {
 public:
  explicit HeadWalk(std::span<const std::byte> bytes)
      : base_(reinterpret_cast<const uint8_t*>(bytes.data())), budget_(bytes.size()) {}

  Result<void> run(const Table& root) { return table(root, *fb::ModelTypeTable()); }

 private:
  struct Frame {
    const char* field;
    int64_t element;  // -1: not in a vector
  };

  std::string path() const {
    std::string text = "model";
    for (const Frame& frame : frames_) {
      text += std::string(".") + frame.field;
      if (frame.element >= 0) text += strf("[{}]", frame.element);
    }
    return text;
  }
  std::unexpected<Error> damaged(std::string_view what) const {
    return fail(ErrorCode::kInvalidFile, strf("the head is damaged: {} {}", path(), what));
  }

  // A sound head visits each of its bytes once at most.
  bool spend(uint64_t bytes) {
    if (bytes > budget_) return false;
    budget_ -= bytes;
    return true;
  }
  std::unexpected<Error> overspent() const {
    return damaged("is shared with other parts of the head, which no Linnet file does");
  }

  Result<void> table(const Table& table, const TypeTable& type) {
    if (!spend(sizeof(flatbuffers::soffset_t))) return overspent();
    for (size_t i = 0; i < type.num_elems; ++i) {
      const auto offset =
          table.GetOptionalFieldOffset(FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(i)));
      if (offset == 0) continue;
      frames_.push_back({type.names[i], -1});
      const uint8_t* at = reinterpret_cast<const uint8_t*>(&table) + offset;
      const auto code = type.type_codes[i];
      const auto kind = static_cast<ElementaryType>(code.base_type);
      const TypeTable* of = code.sequence_ref >= 0 ? type.type_refs[code.sequence_ref]() : nullptr;
      if (code.is_repeating) {
        LINNET_TRY(vector(at, kind, of));
      } else if (of && of->st == flatbuffers::ST_UNION && kind == flatbuffers::ET_SEQUENCE) {
        LINNET_TRY(union_value(table, i, at, *of));
      } else {
        if (!spend(flatbuffers::InlineSize(kind, of))) return overspent();
        LINNET_TRY(element(at, kind, of));
      }
      frames_.pop_back();
    }
    return {};
  }

  // A union's type is the field before it.
  Result<void> union_value(const Table& table_, size_t field, const uint8_t* at, const TypeTable& type) {
    const auto member =
        table_.GetField<uint8_t>(FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(field - 1)), 0);
    if (member == 0) return damaged("has no kind");
    if (member >= type.num_elems)
      return fail(ErrorCode::kUnsupported,
                  strf("{} has kind {}, and this Linnet knows 1 to {}: the file needs a "
                       "newer Linnet",
                       path(), member, type.num_elems - 1));
    if (!spend(sizeof(uoffset_t))) return overspent();
    const ArgumentsScope scope(arguments_);
    return table(*reinterpret_cast<const Table*>(follow(at)),
                 *type.type_refs[type.type_codes[member].sequence_ref]());
  }

  Result<void> vector(const uint8_t* at, ElementaryType kind, const TypeTable* of) {
    const uint8_t* data = follow(at);
    const auto count = ReadScalar<uoffset_t>(data);
    data += sizeof(uoffset_t);
    const size_t size = flatbuffers::InlineSize(kind, of);
    if (!spend(2 * sizeof(uoffset_t) + uint64_t{count} * size)) return overspent();
    // FlatBuffers' verifier checks the alignment of a vector's length, not of its elements.
    const bool wide = kind == flatbuffers::ET_LONG || kind == flatbuffers::ET_ULONG ||
                      kind == flatbuffers::ET_DOUBLE || (of && of->st == flatbuffers::ST_STRUCT);
    if (count > 0 && wide && static_cast<size_t>(data - base_) % 8 != 0) return damaged("is misaligned");
    const bool plain = !of && kind != flatbuffers::ET_STRING && kind != flatbuffers::ET_FLOAT &&
                       kind != flatbuffers::ET_DOUBLE && !(arguments_ && kind == flatbuffers::ET_INT);
    if (plain) return {};
    for (uoffset_t i = 0; i < count; ++i) {
      frames_.back().element = i;
      LINNET_TRY(element(data + i * size, kind, of));
    }
    return {};
  }

  Result<void> element(const uint8_t* at, ElementaryType kind, const TypeTable* of) {
    switch (kind) {
      case flatbuffers::ET_STRING: {
        const auto length = ReadScalar<uoffset_t>(follow(at));
        return spend(sizeof(uoffset_t) + uint64_t{length} + 1) ? Result<void>() : overspent();
      }
      case flatbuffers::ET_FLOAT:
        return std::isfinite(ReadScalar<float>(at)) ? Result<void>() : damaged("is not a finite number");
      case flatbuffers::ET_DOUBLE:
        return std::isfinite(ReadScalar<double>(at)) ? Result<void>() : damaged("is not a finite number");
      case flatbuffers::ET_INT: {
        const int64_t value = ReadScalar<int32_t>(at);
        if (!arguments_ || of || (value <= kMaxChannels && value >= -kMaxChannels)) return {};
        return damaged(strf("is {}, and numbers of an op may be {} at most", value, kMaxChannels));
      }
      case flatbuffers::ET_UCHAR:
        if (!of) return {};
        return enum_value(ReadScalar<uint8_t>(at), *of);
      case flatbuffers::ET_SEQUENCE:
        if (of->st == flatbuffers::ST_STRUCT) return {};  // Dim: integers, which verify.cc checks
        return table(*reinterpret_cast<const Table*>(follow(at)), *of);
      default:
        return {};
    }
  }

  Result<void> enum_value(int64_t value, const TypeTable& type) {
    const bool known = type.values ? std::find(type.values, type.values + type.num_elems, value) !=
                                         type.values + type.num_elems
                                   : value >= 0 && value < static_cast<int64_t>(type.num_elems);
    // The type of a union without a value is checked beside the value.
    if (known || type.st == flatbuffers::ST_UNION) return {};
    return fail(
        ErrorCode::kUnsupported,
        strf("{} has value {}, and this Linnet knows {} values: the file needs a newer Linnet or is damaged",
             path(), value, type.num_elems));
  }

  static const uint8_t* follow(const uint8_t* at) { return at + ReadScalar<uoffset_t>(at); }

  // While the walk is in the arguments of an op, which stand in the only union there is.
  struct ArgumentsScope {
    explicit ArgumentsScope(bool& flag) : flag(flag) { flag = true; }
    ~ArgumentsScope() { flag = false; }
    ArgumentsScope(const ArgumentsScope&) = delete;
    ArgumentsScope& operator=(const ArgumentsScope&) = delete;
    bool& flag;
  };

  bool arguments_ = false;
  const uint8_t* base_;
  uint64_t budget_;
  std::vector<Frame> frames_;
};

}  // namespace

Result<std::unique_ptr<fb::ModelT>> decode_head(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxHeadBytes)
    return fail(ErrorCode::kInvalidFile,
                strf("the head has {} bytes, more than the {} a head may have", bytes.size(), kMaxHeadBytes));
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  flatbuffers::Verifier verifier(data, bytes.size(), kMaxDepth, kMaxTables);
  if (bytes.size() < 16 || !fb::VerifyModelBuffer(verifier))
    return fail(ErrorCode::kInvalidFile, "the head is damaged: its structure leads outside of it");
  const fb::Model* root = fb::GetModel(data);
  HeadWalk walk(bytes);
  LINNET_TRY(walk.run(*reinterpret_cast<const Table*>(root)));
  try {
    return std::unique_ptr<fb::ModelT>(root->UnPack());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, strf("no memory to read a head of {} bytes", bytes.size()));
  }
}

Result<std::vector<std::byte>> encode_head(const fb::ModelT& model) {
  // FlatBuffers ends the program at 2 GiB, so what can grow that large is added up first.
  uint64_t text = model.chat_template.size();
  for (const auto& entry : model.metadata) text += entry->key.size() + entry->value.size();
  if (model.tokenizer)
    for (const std::string& piece : model.tokenizer->pieces) text += piece.size() + sizeof(uoffset_t);
  if (text > kMaxHeadBytes)
    return fail(ErrorCode::kInvalidArgument,
                strf("tokenizer, metadata and chat template have {} bytes, and a model's head may have {}",
                     text, kMaxHeadBytes));
  try {
    flatbuffers::FlatBufferBuilder builder(1 << 20);
    fb::FinishModelBuffer(builder, fb::CreateModel(builder, &model));
    if (builder.GetSize() > kMaxHeadBytes)
      return fail(ErrorCode::kInvalidArgument,
                  strf("the model's head has {} bytes, and may have {}", builder.GetSize(), kMaxHeadBytes));
    const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    return std::vector<std::byte>(data, data + builder.GetSize());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory to build the head of the model file");
  }
}

bool half_products(const fb::MethodT& method) {
  if (method.products == fb::Products::ByName) return method.name != names::kDecodeImage;
  return method.products == fb::Products::Half;
}

}  // namespace linnet::format
