#include "runtime/session/chat_file.h"

#include <cstring>

#include "runtime/core/strings.h"

namespace linnet {
namespace {

constexpr char kChatMagic[4] = {'L', 'N', 'C', 'H'};
constexpr uint32_t kChatVersion = 1;

class Writer {
 public:
  template <typename T>
  void number(T value) {
    raw(&value, sizeof(value));
  }
  void raw(const void* data, size_t bytes) {
    const size_t end = bytes_.size();
    bytes_.resize(end + bytes);
    if (bytes > 0) std::memcpy(bytes_.data() + end, data, bytes);
  }
  void text(const std::string& value) {
    number(static_cast<uint64_t>(value.size()));
    raw(value.data(), value.size());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads past the end give zeros and leave good() false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T number() {
    T value{};
    raw(&value, sizeof(value));
    return value;
  }
  void raw(void* data, size_t bytes) {
    if (bytes > bytes_.size()) {
      good_ = false;
      bytes_ = {};
      return;
    }
    if (bytes > 0) std::memcpy(data, bytes_.data(), bytes);
    bytes_ = bytes_.subspan(bytes);
  }
  // A count of elements of at least `bytes` each, never more than can be there.
  size_t count(size_t bytes) {
    const auto n = number<uint64_t>();
    if (n <= bytes_.size() / bytes) return static_cast<size_t>(n);
    good_ = false;
    return 0;
  }
  std::string text() {
    std::string value(count(1), '\0');
    raw(value.data(), value.size());
    return value;
  }
  bool good() const { return good_; }
  bool at_end() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace

std::vector<std::byte> encode_record(const ChatRecord& record) {
  Writer out;
  out.raw(kChatMagic, sizeof(kChatMagic));
  out.number(kChatVersion);
  out.number(static_cast<uint32_t>(record.kind));
  out.number(static_cast<uint64_t>(record.messages.size()));
  for (const Message& message : record.messages) {
    out.text(message.role);
    out.text(message.content);
  }
  out.number(static_cast<uint64_t>(record.tokens.size()));
  out.raw(record.tokens.data(), record.tokens.size() * sizeof(int32_t));
  out.text(record.text);
  out.number(static_cast<uint8_t>(record.exact ? 1 : 0));
  out.number(record.pending.value_or(-1));
  out.text(record.pending_text);
  return out.take();
}

Result<ChatRecord> decode_record(std::span<const std::byte> bytes) {
  Reader in(bytes);
  char magic[4] = {};
  in.raw(magic, sizeof(magic));
  if (std::memcmp(magic, kChatMagic, sizeof(kChatMagic)) != 0)
    return fail(ErrorCode::kInvalidFile, "holds no conversation");
  if (const auto version = in.number<uint32_t>(); version != kChatVersion)
    return fail(ErrorCode::kInvalidFile,
                strf("holds a conversation of version {}, this Linnet reads {}", version, kChatVersion));
  ChatRecord record;
  record.kind = static_cast<ChatRecord::Kind>(in.number<uint32_t>());
  const size_t messages = in.count(2 * sizeof(uint64_t));
  for (size_t i = 0; i < messages && in.good(); ++i) {
    std::string role = in.text();
    record.messages.push_back({std::move(role), in.text()});
  }
  record.tokens.resize(in.count(sizeof(int32_t)));
  in.raw(record.tokens.data(), record.tokens.size() * sizeof(int32_t));
  record.text = in.text();
  record.exact = in.number<uint8_t>() != 0;
  const auto pending = in.number<int32_t>();
  if (pending >= 0) record.pending = pending;
  record.pending_text = in.text();
  if (!in.good() || !in.at_end()) return fail(ErrorCode::kInvalidFile, "holds a damaged conversation");
  return record;
}

}  // namespace linnet
