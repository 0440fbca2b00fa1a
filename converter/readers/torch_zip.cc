#include "converter/readers/torch_zip.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "converter/readers/pickle.h"
#include "converter/readers/zip.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

using PickleKind = PickleValue::Kind;
using Members = std::map<std::string, std::span<const std::byte>>;

// torch's classes of storages.
constexpr std::pair<std::string_view, Encoding> kStorages[] = {
    {"torch FloatStorage", Encoding::kF32},
    {"torch HalfStorage", Encoding::kF16},
    {"torch BFloat16Storage", Encoding::kBF16},
    {"torch DoubleStorage", Encoding::kF64},
    {"torch LongStorage", Encoding::kI64},
    {"torch IntStorage", Encoding::kI32},
    {"torch ShortStorage", Encoding::kI16},
    {"torch CharStorage", Encoding::kI8},
    {"torch ByteStorage", Encoding::kU8},
    {"torch BoolStorage", Encoding::kBool},
    {"torch Float8_e4m3fnStorage", Encoding::kF8E4M3},
    {"torch Float8_e5m2Storage", Encoding::kF8E5M2}};

// Where training programs put the state_dict, the likeliest first.
constexpr std::string_view kUsualNames[] = {"state_dict", "model_state_dict", "model", "module",
                                            "params_ema", "params",           "ema",   "net"};

constexpr int64_t kMostElements = int64_t{1} << 48;

class Reader {
 public:
  Reader(const Pickle& pickle, const Members& members, std::string prefix, const std::string& name)
      : pickle_(pickle), members_(members), prefix_(std::move(prefix)), name_(name) {}

  Result<std::vector<TensorInfo>> tensors() {
    const PickleValue* state = state_dict();
    if (!state)
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' has no tensors by name at its top or under {}: give a file with a state_dict",
                       name_, usual_names()));
    std::vector<TensorInfo> result;
    std::set<std::string_view> names;
    for (size_t i = 0; i + 1 < state->items.size(); i += 2) {
      const PickleValue &key = pickle_.at(state->items[i]), &value = pickle_.at(state->items[i + 1]);
      if (key.kind != PickleKind::kText || value.kind != PickleKind::kTensor) continue;
      if (!names.insert(key.text).second)
        return fail(ErrorCode::kInvalidFile, strf("'{}' names tensor '{}' twice: the file is damaged", name_,
                                                  std::string_view(key.text).substr(0, 200)));
      LINNET_ASSIGN(TensorInfo tensor, make(key.text, value));
      result.push_back(std::move(tensor));
    }
    return without_wrapper(std::move(result));
  }

 private:
  static std::string usual_names() {
    std::string text;
    for (const std::string_view usual : kUsualNames) text += strf("{}'{}'", text.empty() ? "" : ", ", usual);
    return text;
  }

  bool has_tensors(const PickleValue& value) const {
    if (value.kind != PickleKind::kDict) return false;
    for (size_t i = 0; i + 1 < value.items.size(); i += 2)
      if (pickle_.at(value.items[i]).kind == PickleKind::kText &&
          pickle_.at(value.items[i + 1]).kind == PickleKind::kTensor)
        return true;
    return false;
  }
  const PickleValue* state_dict() const {
    const PickleValue& root = pickle_.at(pickle_.root);
    if (has_tensors(root)) return &root;
    if (root.kind != PickleKind::kDict) return nullptr;
    for (const std::string_view usual : kUsualNames)
      for (size_t i = 0; i + 1 < root.items.size(); i += 2)
        if (const PickleValue& key = pickle_.at(root.items[i]);
            key.kind == PickleKind::kText && key.text == usual)
          if (const PickleValue& value = pickle_.at(root.items[i + 1]); has_tensors(value)) return &value;
    return nullptr;
  }

  std::optional<std::vector<int64_t>> numbers(uint32_t index) const {
    const PickleValue& value = pickle_.at(index);
    if (value.kind != PickleKind::kTuple) return std::nullopt;
    std::vector<int64_t> result;
    for (const uint32_t item : value.items) {
      const PickleValue& n = pickle_.at(item);
      if (n.kind != PickleKind::kInteger || n.integer < 0 || n.integer > kMostElements) return std::nullopt;
      result.push_back(n.integer);
    }
    return result;
  }

  Result<TensorInfo> make(const std::string& tensor, const PickleValue& value) const {
    const auto damaged = [&](const char* what) {
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': tensor '{}' {}: the file is damaged", name_, tensor, what));
    };
    // ('storage', class, key, device, elements)
    const PickleValue& stored = pickle_.at(value.items[0]);
    if (stored.kind != PickleKind::kStored || stored.items.size() != 1) return damaged("has no storage");
    const PickleValue& id = pickle_.at(stored.items[0]);
    if (id.kind != PickleKind::kTuple || id.items.size() < 5 ||
        pickle_.at(id.items[1]).kind != PickleKind::kGlobal ||
        pickle_.at(id.items[2]).kind != PickleKind::kText)
      return damaged("has a storage that is described in no known way");
    const std::string &kind = pickle_.at(id.items[1]).text, &key = pickle_.at(id.items[2]).text;
    const auto known = std::find_if(std::begin(kStorages), std::end(kStorages),
                                    [&](const auto& storage) { return storage.first == kind; });
    if (known == std::end(kStorages))
      return fail(
          ErrorCode::kUnsupported,
          strf("'{}': tensor '{}' is stored as '{}', which Linnet cannot read: save it in f32, f16 or bf16",
               name_, tensor, kind));
    const auto member = members_.find(prefix_ + "data/" + key);
    if (member == members_.end()) return damaged("has a storage that is not in the file");
    const auto sizes = numbers(value.items[2]), strides = numbers(value.items[3]);
    const PickleValue& offset = pickle_.at(value.items[1]);
    if (!sizes || !strides || sizes->size() != strides->size() || sizes->size() > 8 ||
        offset.kind != PickleKind::kInteger || offset.integer < 0 || offset.integer > kMostElements)
      return damaged("has sizes that are none");
    TensorInfo info;
    info.name = tensor;
    info.encoding = known->second;
    info.shape = *sizes;
    LINNET_TRY(place(info, *strides, offset.integer, member->second));
    return info;
  }

  // The bytes from the first element to the last; strides where they do not follow each other.
  Result<void> place(TensorInfo& info, const std::vector<int64_t>& strides, int64_t offset,
                     std::span<const std::byte> storage) const {
    const auto outside = [&] {
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': tensor '{}' {} reaches past its storage: the file is damaged", name_, info.name,
                       shape_name(info.shape)));
    };
    const auto bytes = static_cast<int64_t>(encoding_info(info.encoding).block_bytes);
    const int64_t stored = static_cast<int64_t>(storage.size()) / bytes;
    int64_t elements = 1, last = offset;
    bool contiguous = true;
    for (size_t i = info.shape.size(); i-- > 0;) {
      const int64_t n = info.shape[i];
      if (n > 0 && elements > kMostElements / n) return outside();
      contiguous &= n == 1 || strides[i] == elements;
      elements *= n;
      if (n > 1 && strides[i] > (kMostElements - last) / n) return outside();
      if (n > 0) last += (n - 1) * strides[i];
    }
    if (elements == 0) return {};
    if (last >= stored) return outside();
    info.bytes = storage.subspan(static_cast<size_t>(offset * bytes),
                                 static_cast<size_t>((last - offset + 1) * bytes));
    if (!contiguous) info.strides = strides;
    return {};
  }

  // What data-parallel training puts before every name.
  static std::vector<TensorInfo> without_wrapper(std::vector<TensorInfo> tensors) {
    constexpr std::string_view kWrapper = "module.";
    const bool all =
        !tensors.empty() && std::all_of(tensors.begin(), tensors.end(),
                                        [&](const TensorInfo& t) { return t.name.starts_with(kWrapper); });
    for (TensorInfo& t : tensors)
      if (all) t.name.erase(0, kWrapper.size());
    return tensors;
  }

  const Pickle& pickle_;
  const Members& members_;
  const std::string prefix_;  // "archive/"
  const std::string& name_;
};

}  // namespace

Result<std::vector<TensorInfo>> parse_torch(std::span<const std::byte> file, const std::string& name) {
  const auto begins = [&](std::string_view bytes) {
    return file.size() >= bytes.size() && std::memcmp(file.data(), bytes.data(), bytes.size()) == 0;
  };
  // A pickled magic number, or a tar file: torch.save before 1.6, or its
  // _use_new_zipfile_serialization=False.
  if (begins("\x80\x02\x8a") || (file.size() > 262 && std::memcmp(file.data() + 257, "ustar", 5) == 0))
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' has the form that torch.save had before torch 1.6, which Linnet does not read: load it "
             "with a current torch and save it with torch.save",
             name));
  if (!begins("PK\x03\x04"))
    return fail(
        ErrorCode::kInvalidFile,
        strf("'{}' is no file of torch.save: it does not begin as a ZIP file (a Git LFS pointer is not "
             "the file itself)",
             name));
  LINNET_ASSIGN(const Members members, read_stored_zip(file, name));
  std::string prefix;
  const std::span<const std::byte>* program = nullptr;
  for (const auto& [member, bytes] : members)
    if (member == "data.pkl" || member.ends_with("/data.pkl")) {
      program = &bytes;
      prefix = member.substr(0, member.size() - std::string_view("data.pkl").size());
      break;
    }
  if (!program)
    return fail(ErrorCode::kUnsupported,
                strf("'{}' is a ZIP file without data.pkl: torch.save did not write it", name));
  if (const auto order = members.find(prefix + "byteorder"); order != members.end())
    if (std::string_view(reinterpret_cast<const char*>(order->second.data()), order->second.size()) !=
        "little")
      return fail(ErrorCode::kUnsupported, strf("'{}' was written in big-endian byte order: save it on a "
                                                "little-endian machine",
                                                name));
  LINNET_ASSIGN(const Pickle pickle, read_pickle(*program, name));
  return Reader(pickle, members, prefix, name).tensors();
}

Result<void> read_torch(const std::string& path, Checkpoint& checkpoint) {
  LINNET_ASSIGN(format::MappedFile file, format::MappedFile::open(path));
  LINNET_ASSIGN(std::vector<TensorInfo> tensors, parse_torch(file.bytes(), path));
  return checkpoint.add_file(path, std::move(file), std::move(tensors), Checkpoint::Sharing::kAllowed);
}

}  // namespace linnet::convert
