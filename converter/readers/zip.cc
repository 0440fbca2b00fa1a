#include "converter/readers/zip.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50, kEntry = 0x02014b50,
                   kLocal = 0x04034b50;
constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30;
constexpr uint16_t kExtra64 = 1;
constexpr uint64_t kMostMembers = 1 << 20;

// Little-endian numbers at an offset; what lies outside the file is 0 and remembered.
struct Numbers {
  std::span<const std::byte> file;
  bool outside = false;
  template <typename T>
  T at(uint64_t offset) {
    T value{};
    if (offset > file.size() || file.size() - offset < sizeof(T))
      outside = true;
    else
      std::memcpy(&value, file.data() + offset, sizeof value);
    return value;
  }
};

struct Entry {
  uint64_t size = 0, stored = 0, local = 0;
  uint16_t method = 0, flags = 0;
  std::string name;
};

// The numbers that did not fit the entry stand in a field of 64 bits each, in this order.
void widen(Numbers& in, uint64_t extra, uint64_t extra_end, Entry& entry) {
  for (uint64_t at = extra; at + 4 <= extra_end && !in.outside;) {
    const auto id = in.at<uint16_t>(at), length = in.at<uint16_t>(at + 2);
    if (id == kExtra64) {
      uint64_t field = at + 4;
      for (uint64_t* number : {&entry.size, &entry.stored, &entry.local})
        if (*number == UINT32_MAX && field + 8 <= at + 4 + length) {
          *number = in.at<uint64_t>(field);
          field += 8;
        }
      return;
    }
    at += uint64_t{4} + length;
  }
}

}  // namespace

Result<std::map<std::string, std::span<const std::byte>>> read_stored_zip(std::span<const std::byte> file,
                                                                          const std::string& name) {
  const auto damaged = [&](const std::string& what) {
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' cannot be read as a ZIP file: {}: it is truncated or damaged", name, what));
  };
  Numbers in{file};
  // The end of the directory is the last thing in the file, but for a comment of up to 65,535 bytes.
  if (file.size() < kEndBytes) return damaged("it is too short");
  const uint64_t earliest = file.size() - std::min<uint64_t>(file.size(), kEndBytes + UINT16_MAX);
  uint64_t end = file.size() - kEndBytes;
  while (in.at<uint32_t>(end) != kEnd) {
    if (end == earliest) return damaged("its directory has no end");
    --end;
  }
  uint64_t count = in.at<uint16_t>(end + 10), at = in.at<uint32_t>(end + 16);
  if (end >= 20 && in.at<uint32_t>(end - 20) == kLocator64) {
    const auto wide = in.at<uint64_t>(end - 20 + 8);
    if (in.at<uint32_t>(wide) != kEnd64) return damaged("its directory's end is not where it says");
    count = in.at<uint64_t>(wide + 32);
    at = in.at<uint64_t>(wide + 48);
  }
  if (count > kMostMembers) return damaged(strf("it claims {} members", count));
  std::map<std::string, std::span<const std::byte>> members;
  for (uint64_t i = 0; i < count && !in.outside; ++i) {
    if (in.at<uint32_t>(at) != kEntry) return damaged(strf("entry {} of its directory is none", i));
    Entry entry;
    entry.flags = in.at<uint16_t>(at + 8);
    entry.method = in.at<uint16_t>(at + 10);
    entry.stored = in.at<uint32_t>(at + 20);
    entry.size = in.at<uint32_t>(at + 24);
    entry.local = in.at<uint32_t>(at + 42);
    const uint64_t name_bytes = in.at<uint16_t>(at + 28), extra = in.at<uint16_t>(at + 30),
                   comment = in.at<uint16_t>(at + 32);
    const uint64_t next = at + kEntryBytes + name_bytes + extra + comment;
    if (next > file.size()) return damaged(strf("entry {} of its directory reaches past its end", i));
    entry.name.assign(reinterpret_cast<const char*>(file.data()) + at + kEntryBytes, name_bytes);
    widen(in, at + kEntryBytes + name_bytes, at + kEntryBytes + name_bytes + extra, entry);
    at = next;
    if (entry.method != 0 || entry.size != entry.stored || (entry.flags & 1) != 0)
      return fail(ErrorCode::kUnsupported,
                  strf("'{}': the member '{}' is compressed or encrypted, and torch.save stores its members "
                       "as they are: save the checkpoint again with torch.save",
                       name, entry.name));
    if (in.at<uint32_t>(entry.local) != kLocal)
      return damaged(strf("the member '{}' is not where the directory says", entry.name));
    const uint64_t begin =
        entry.local + kLocalBytes + in.at<uint16_t>(entry.local + 26) + in.at<uint16_t>(entry.local + 28);
    if (in.outside || begin > file.size() || entry.size > file.size() - begin)
      return damaged(strf("the member '{}' reaches past its end", entry.name));
    if (!members.emplace(entry.name, file.subspan(begin, entry.size)).second)
      return damaged(strf("the member '{}' is there twice", entry.name));
  }
  if (in.outside) return damaged("its directory reaches past its end");
  return members;
}

}  // namespace linnet::convert
