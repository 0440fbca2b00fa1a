#include "runtime/session/state_file.h"

#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "runtime/core/strings.h"

namespace linnet {
namespace {

// Little endian, as all of Linnet's files. The checksum covers the header before it and all that follows it.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t endian;
  uint64_t state_key, model_id;
  uint64_t attachment_bytes, block_bytes;
  uint64_t reserved;
  uint64_t checksum;
};
static_assert(sizeof(Header) == 64);
constexpr char kStateMagic[8] = {'L', 'N', 'S', 'T', '\r', '\n', '\x1a', '\n'};
constexpr uint32_t kStateVersion = 1, kEndian = 0x01020304;
constexpr uint64_t kMostAttachment = uint64_t{1} << 30;

struct Close {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, Close>;

uint64_t checksum(const Header& header, std::span<const std::byte> attachment,
                  std::span<const std::byte> block) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &header, offsetof(Header, checksum));
  if (!attachment.empty()) XXH3_64bits_update(&state, attachment.data(), attachment.size());
  if (!block.empty()) XXH3_64bits_update(&state, block.data(), block.size());
  return XXH3_64bits_digest(&state);
}

}  // namespace

Result<void> write_state_file(const std::string& path, const StateKeys& keys,
                              std::span<const std::byte> attachment, std::span<const std::byte> block,
                              format::OutputOptions output) {
  Header header{};
  std::memcpy(header.magic, kStateMagic, sizeof(kStateMagic));
  header.version = kStateVersion;
  header.endian = kEndian;
  header.state_key = keys.state;
  header.model_id = keys.model;
  header.attachment_bytes = attachment.size();
  header.block_bytes = block.size();
  header.checksum = checksum(header, attachment, block);
  return format::write_file(path, {std::as_bytes(std::span(&header, 1)), attachment, block}, output);
}

bool is_state_file(const std::string& path) {
  char magic[sizeof(kStateMagic)] = {};
  const File file(std::fopen(path.c_str(), "rb"));
  return file && std::fread(magic, sizeof(magic), 1, file.get()) == 1 &&
         std::memcmp(magic, kStateMagic, sizeof(magic)) == 0;
}

Result<StateFile> read_state_file(const std::string& path, const StateKeys& keys, size_t block_bytes) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file)
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                strf("cannot open the state file '{}': {}", path, std::strerror(errno)));
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidFile, strf("the state file '{}' {}", path, why));
  };
  Header header;
  if (std::fread(&header, sizeof(header), 1, file.get()) != 1) return refuse("is too short to be one");
  if (std::memcmp(header.magic, kStateMagic, sizeof(kStateMagic)) != 0)
    return refuse("is not a Linnet state file");
  if (header.endian != kEndian) return refuse("was written on a machine of the other byte order");
  if (header.version != kStateVersion)
    return refuse(strf("has version {}, this Linnet reads {}", header.version, kStateVersion));
  if (header.model_id != keys.model) return refuse("belongs to another model");
  if (header.state_key != keys.state || header.block_bytes != block_bytes)
    return refuse("was saved with another window, context or cache precision: use the same options");
  if (header.attachment_bytes > kMostAttachment) return refuse("is damaged: its sizes are absurd");
  if (std::fseek(file.get(), 0, SEEK_END) != 0 ||
      static_cast<uint64_t>(std::ftell(file.get())) !=
          sizeof(header) + header.attachment_bytes + header.block_bytes)
    return refuse("is damaged: its length does not match its header");
  std::fseek(file.get(), sizeof(header), SEEK_SET);
  StateFile out;
  out.attachment.resize(header.attachment_bytes);
  out.block.resize(header.block_bytes);
  const auto get = [&](std::vector<std::byte>& to) {
    return to.empty() || std::fread(to.data(), to.size(), 1, file.get()) == 1;
  };
  if (!get(out.attachment) || !get(out.block)) return refuse("could not be read to its end");
  if (checksum(header, out.attachment, out.block) != header.checksum)
    return refuse("is damaged: its checksum does not match");
  return out;
}

}  // namespace linnet
