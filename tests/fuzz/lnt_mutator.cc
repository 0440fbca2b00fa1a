#include "tests/fuzz/lnt_mutator.h"

#include <flatbuffers/minireflect.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <memory>

#include "format/container.h"
#include "format/model_tables.h"
#include "format/verify.h"
#include "runtime/core/align.h"
#include "runtime/core/strings.h"

namespace linnet::fuzz {
namespace {

using flatbuffers::ElementaryType;
using flatbuffers::ReadScalar;
using flatbuffers::Table;
using flatbuffers::TypeTable;
using flatbuffers::uoffset_t;

// Where a scalar or a vector stands in the buffer. Fields of one table type share a group, so that each field
// of the schema is drawn as often as every other, however many instances it has.
struct Slot {
  uint8_t* at = nullptr;
  ElementaryType type = flatbuffers::ET_INT;
  bool vector = false;
  const TypeTable* owner = nullptr;
  size_t field = 0;
};

size_t bytes_of(ElementaryType type) {
  switch (type) {
    case flatbuffers::ET_SHORT:
    case flatbuffers::ET_USHORT:
      return 2;
    case flatbuffers::ET_INT:
    case flatbuffers::ET_UINT:
    case flatbuffers::ET_FLOAT:
      return 4;
    case flatbuffers::ET_LONG:
    case flatbuffers::ET_ULONG:
    case flatbuffers::ET_DOUBLE:
      return 8;
    default:
      return 1;
  }
}
bool is_float(ElementaryType type) { return type == flatbuffers::ET_FLOAT || type == flatbuffers::ET_DOUBLE; }

int64_t integer_at(const Slot& slot) {
  int64_t value = 0;
  std::memcpy(&value, slot.at, bytes_of(slot.type));
  if (slot.type == flatbuffers::ET_INT) value = static_cast<int32_t>(value);
  return value;
}
void put_integer(const Slot& slot, int64_t value) { std::memcpy(slot.at, &value, bytes_of(slot.type)); }

class Fields {
 public:
  explicit Fields(std::vector<uint8_t>& buffer) : buffer_(buffer) {
    table(reinterpret_cast<uint8_t*>(flatbuffers::GetMutableRoot<Table>(buffer_.data())),
          *fb::ModelTypeTable());
    for (size_t i = 0; i < slots.size(); ++i) groups[{slots[i].owner, slots[i].field}].push_back(i);
  }

  std::vector<Slot> slots;
  std::map<std::pair<const TypeTable*, size_t>, std::vector<size_t>> groups;

  static uint8_t* follow(uint8_t* at) { return at + ReadScalar<uoffset_t>(at); }

 private:
  void table(uint8_t* at, const TypeTable& type) {
    const auto& table_at = *reinterpret_cast<const Table*>(at);
    for (size_t i = 0; i < type.num_elems; ++i) {
      const auto offset = table_at.GetOptionalFieldOffset(
          flatbuffers::FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(i)));
      if (offset == 0) continue;
      const auto code = type.type_codes[i];
      const auto kind = static_cast<ElementaryType>(code.base_type);
      const TypeTable* of = code.sequence_ref >= 0 ? type.type_refs[code.sequence_ref]() : nullptr;
      if (code.is_repeating) {
        vector(at + offset, kind, of, type, i);
      } else if (of && of->st == flatbuffers::ST_UNION && kind == flatbuffers::ET_SEQUENCE) {
        const auto member = table_at.GetField<uint8_t>(
            flatbuffers::FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(i - 1)), 0);
        if (member > 0 && member < of->num_elems)
          table(follow(at + offset), *of->type_refs[of->type_codes[member].sequence_ref]());
      } else {
        element(at + offset, kind, of, type, i);
      }
    }
  }
  void vector(uint8_t* at, ElementaryType kind, const TypeTable* of, const TypeTable& owner, size_t field) {
    uint8_t* data = follow(at);
    const auto count = ReadScalar<uoffset_t>(data);
    slots.push_back({data, kind, true, &owner, field});
    data += sizeof(uoffset_t);
    const size_t size = flatbuffers::InlineSize(kind, of);
    for (uoffset_t i = 0; i < count; ++i) element(data + i * size, kind, of, owner, field);
  }
  void element(uint8_t* at, ElementaryType kind, const TypeTable* of, const TypeTable& owner, size_t field) {
    if (kind == flatbuffers::ET_STRING) {
      slots.push_back({follow(at), flatbuffers::ET_UCHAR, true, &owner, field});
    } else if (kind != flatbuffers::ET_SEQUENCE) {
      slots.push_back({at, kind, false, &owner, field});
    } else if (of->st == flatbuffers::ST_STRUCT) {
      for (size_t i = 0; i < of->num_elems; ++i)
        slots.push_back(
            {at + of->values[i], static_cast<ElementaryType>(of->type_codes[i].base_type), false, of, i});
    } else {
      table(follow(at), *of);
    }
  }

  std::vector<uint8_t>& buffer_;
};

template <typename T>
const T& pick(std::span<const T> from, std::mt19937_64& random) {
  return from[random() % from.size()];
}

int64_t other_integer(int64_t v, std::mt19937_64& random) {
  // They may wrap, as they may in a file.
  const auto u = static_cast<uint64_t>(v);
  const int64_t values[] = {0,
                            1,
                            -1,
                            2,
                            3,
                            4,
                            5,
                            static_cast<int64_t>(u + 1),
                            static_cast<int64_t>(u - 1),
                            static_cast<int64_t>(0 - u),
                            static_cast<int64_t>(u * 2),
                            static_cast<int64_t>(u * 3),
                            v / 2,
                            static_cast<int64_t>(u + 64),
                            static_cast<int64_t>(u - 64),
                            7,
                            15,
                            16,
                            17,
                            31,
                            32,
                            33,
                            63,
                            65,
                            127,
                            128,
                            129,
                            255,
                            257,
                            1000,
                            65535,
                            65536,
                            1 << 20,
                            (1 << 24) - 1,
                            std::numeric_limits<int32_t>::max(),
                            std::numeric_limits<int32_t>::min(),
                            int64_t{1} << 31,
                            int64_t{1} << 32,
                            int64_t{1} << 40,
                            int64_t{1} << 48,
                            int64_t{1} << 62,
                            -254,
                            -255,
                            -256,
                            -(int64_t{1} << 31),
                            -(int64_t{1} << 40),
                            std::numeric_limits<int64_t>::max(),
                            std::numeric_limits<int64_t>::min()};
  return pick<int64_t>(values, random);
}

void change_scalar(const Slot& slot, std::mt19937_64& random) {
  if (!is_float(slot.type)) return put_integer(slot, other_integer(integer_at(slot), random));
  float value;
  std::memcpy(&value, slot.at, sizeof(value));
  const float values[] = {0,      -0.0f, 1, -1, 0.5f, 1e-38f, 1e-45f, 3e38f, -3e38f, 1e30f, value * 1.5f + 1,
                          -value, 1e-6f};
  value = pick<float>(values, random);
  std::memcpy(slot.at, &value, sizeof(value));
}

// Shorter, an element twice, or two in the other order. The elements of a vector of tables are distances to
// them.
void change_vector(const Slot& slot, std::mt19937_64& random) {
  const auto count = ReadScalar<uoffset_t>(slot.at);
  if (count == 0) return;
  const bool places = slot.type == flatbuffers::ET_STRING || slot.type == flatbuffers::ET_SEQUENCE;
  const auto way = random() % 3;
  if (way == 0) {
    const uoffset_t shorter = random() % 3 == 0 ? 0 : static_cast<uoffset_t>(random() % count);
    flatbuffers::WriteScalar(slot.at, shorter);
    return;
  }
  const size_t size = places ? sizeof(uoffset_t) : bytes_of(slot.type);
  uint8_t* data = slot.at + sizeof(uoffset_t);
  uint8_t *a = data + random() % count * size, *b = data + random() % count * size;
  if (!places) {
    if (way == 1)
      std::memmove(a, b, size);
    else
      std::swap_ranges(a, a + size, b == a ? data : b);
    return;
  }
  uint8_t *of_a = Fields::follow(a), *of_b = Fields::follow(b);
  flatbuffers::WriteScalar(a, static_cast<uoffset_t>(of_b - a));
  if (way == 2) flatbuffers::WriteScalar(b, static_cast<uoffset_t>(of_a - b));
}

bool is_size(const Slot& slot) {
  if (slot.vector || (slot.type != flatbuffers::ET_INT && slot.type != flatbuffers::ET_LONG)) return false;
  const TypeTable* o = slot.owner;
  return o != fb::NodeTypeTable() && o != fb::MethodTypeTable() && o != fb::TokenizerTypeTable() &&
         !(o == fb::DimTypeTable() && slot.field < 3);
}

// All sizes of one value become another.
std::string change_size(Fields& fields, std::mt19937_64& random) {
  std::vector<size_t> sizes;
  for (size_t i = 0; i < fields.slots.size(); ++i)
    if (is_size(fields.slots[i]) && integer_at(fields.slots[i]) > 0) sizes.push_back(i);
  if (sizes.empty()) return {};
  const int64_t from = integer_at(fields.slots[pick<size_t>(sizes, random)]),
                to = other_integer(from, random);
  for (const size_t i : sizes)
    if (integer_at(fields.slots[i]) == from) put_integer(fields.slots[i], to);
  return strf("every {} is {}", from, to);
}

// One of mul, div and add of all dimensions that follow one symbol. A Dim's fields are its slots in order.
std::string change_symbol(Fields& fields, std::mt19937_64& random) {
  const auto found = fields.groups.find({fb::DimTypeTable(), 0});
  if (found == fields.groups.end()) return {};
  const int64_t symbol = integer_at(fields.slots[pick<size_t>(found->second, random)]);
  if (symbol < 0) return {};
  const size_t field = 1 + random() % 3;
  const int64_t factors[] = {2, 3, 7, 257, 1000, 1 << 16, 1 << 20, std::numeric_limits<int32_t>::max()};
  const int64_t terms[] = {-1, -2, -3, -100, -255, 1, 2, 3, 1000, 100000};
  const int64_t to = field == 3 ? pick<int64_t>(terms, random) : pick<int64_t>(factors, random);
  const bool all = random() % 2 == 0;
  for (const size_t i : found->second)
    if (integer_at(fields.slots[i]) == symbol && (all || random() % 4 == 0))
      put_integer(fields.slots[i + field], to);
  return strf("field {} of {} dimensions of symbol {} is {}", field, all ? "all" : "some", symbol, to);
}

std::string change_type(Fields& fields, std::mt19937_64& random) {
  const auto found = fields.groups.find({fb::WeightTypeTable(), 1});
  if (found == fields.groups.end()) return {};
  const auto type = static_cast<int64_t>(random() % (static_cast<uint64_t>(fb::DType::MAX) + 1));
  const bool all = random() % 2 == 0;
  for (const size_t i : found->second)
    if (all || random() % 4 == 0) put_integer(fields.slots[i], type);
  return strf("{} weights have type {}", all ? "all" : "some", type);
}

struct Change {
  std::string what;
  bool keeps_layout = false;  // it is about where weights lie
};

Change change(Fields& fields, std::mt19937_64& random) {
  const auto way = random() % 8;
  if (way == 0) return {change_size(fields, random), false};
  if (way == 1) return {change_symbol(fields, random), false};
  if (way == 2) return {change_type(fields, random), false};
  auto group = fields.groups.begin();
  std::advance(group, static_cast<std::ptrdiff_t>(random() % fields.groups.size()));
  const Slot& slot = fields.slots[pick<size_t>(group->second, random)];
  slot.vector ? change_vector(slot, random) : change_scalar(slot, random);
  const bool place =
      slot.owner == fb::SegmentTypeTable() || (slot.owner == fb::WeightTypeTable() && slot.field >= 4);
  const char* name = slot.owner->names ? slot.owner->names[slot.field] : "?";
  return {
      strf("field '{}'{} ({})", name, slot.vector ? " as a vector" : "",
           slot.vector || is_float(slot.type) ? std::string("changed") : std::to_string(integer_at(slot))),
      place};
}

std::vector<uint8_t> pack(const fb::ModelT& model, bool every_field) {
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.ForceDefaults(every_field);
  fb::FinishModelBuffer(builder, fb::CreateModel(builder, &model));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

std::unique_ptr<fb::ModelT> unpack(std::span<const uint8_t> bytes) {
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), 16, 4'000'000);
  if (bytes.size() < 16 || !fb::VerifyModelBuffer(verifier)) return nullptr;
  std::unique_ptr<fb::ModelT> model(fb::GetModel(bytes.data())->UnPack());
  // An op that became none of the union's members: it could not be written again.
  for (const auto& method : model->methods)
    for (const auto& node : method->nodes)
      if (!node->args.value) return nullptr;
  return model;
}

}  // namespace

std::vector<std::byte> file_of_head(std::span<const std::byte> head, size_t most) {
  using namespace format;
  size_t area = size_t{1} << 20;
  const std::vector<uint8_t> aligned(reinterpret_cast<const uint8_t*>(head.data()),
                                     reinterpret_cast<const uint8_t*>(head.data()) + head.size());
  if (const auto model = unpack(aligned))
    for (const auto& segment : model->segments)
      if (segment && segment->offset <= most && segment->bytes <= most)
        area = std::max(area, static_cast<size_t>(segment->offset + segment->bytes) + kOverRead);
  area = align_up(std::min(area, most), kTensorAlignment);
  std::vector<std::byte> file(area);
  for (size_t i = 0; i + 4 <= area; i += 4) {
    const float value = static_cast<float>(i / 4 % 17) / 64 - 0.125f;
    std::memcpy(file.data() + i, &value, sizeof(value));
  }
  file.insert(file.end(), head.begin(), head.end());
  const auto header = encode_header({.version = kFormatVersion,
                                     .file_bytes = file.size(),
                                     .head_offset = area,
                                     .head_bytes = head.size(),
                                     .head_checksum = checksum(head)});
  std::copy(header.begin(), header.end(), file.begin());
  return file;
}

void lay_out_weights(fb::ModelT& model) {
  uint64_t end = 0;
  for (const auto& weight : model.weights) {
    const auto bytes = format::stored_bytes(format::to_dtype(weight->dtype), weight->layout, weight->shape);
    weight->segment = 0;
    weight->offset = end;
    weight->bytes = bytes.value_or(0);
    end = align_up(end + weight->bytes, format::kTensorAlignment);
  }
  model.segments.resize(1);
  if (!model.segments[0]) model.segments[0] = std::make_unique<fb::SegmentT>();
  model.segments[0]->offset = format::kPageBytes;
  model.segments[0]->bytes = std::max<uint64_t>(end, 1);
}

Mutant mutate_head(std::span<const std::byte> head, std::mt19937_64& random) {
  std::vector<uint8_t> buffer(reinterpret_cast<const uint8_t*>(head.data()),
                              reinterpret_cast<const uint8_t*>(head.data()) + head.size());
  auto model = unpack(buffer);
  if (!model) return {};
  Mutant mutant;
  bool keeps_layout = false;
  const int changes = random() % 4 == 0 ? 2 + static_cast<int>(random() % 2) : 1;
  for (int i = 0; i < changes; ++i) {
    buffer = pack(*model, true);
    Fields fields(buffer);
    const Change made = change(fields, random);
    auto changed = unpack(buffer);
    if (!changed) continue;  // a union's member of another type
    model = std::move(changed);
    keeps_layout = keeps_layout || made.keeps_layout;
    mutant.what += (mutant.what.empty() ? "" : "; ") + made.what;
  }
  if (!keeps_layout && std::ranges::all_of(model->weights, [](const auto& w) { return w != nullptr; }))
    lay_out_weights(*model);
  const std::vector<uint8_t> packed = pack(*model, false);
  mutant.head.assign(reinterpret_cast<const std::byte*>(packed.data()),
                     reinterpret_cast<const std::byte*>(packed.data()) + packed.size());
  return mutant;
}

}  // namespace linnet::fuzz
