// Arbitrary bytes as a state file of a small model. Byte 0 says which file it is and whether its header is
// made to fit, so that changes get past the checksum: a saved conversation, a prefix cache, or a session's
// own file. What loads is talked with.
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "backends/cpu/cpu.h"
#include "linnet/chat.h"
#include "runtime/engine/engine.h"
#include "tests/fuzz/tiny_files.h"

using namespace linnet;

namespace {

constexpr size_t kHeaderBytes = 64;

SessionOptions session_options(bool full) {
  SessionOptions options;
  options.full_attention = full;
  options.window = 24;
  options.context = 512;
  options.chunk = 64;
  options.cache = CachePrecision::kF16;
  options.history_bytes = full ? 0 : size_t{256} << 10;
  return options;
}

std::unique_ptr<Session> new_session(bool recurrent, bool full) {
  static const std::shared_ptr<const Model> models[] = {fuzz::open_golden("language/llama/model"),
                                                        fuzz::open_golden("language/fla_rwkv7/model")};
  auto session = Session::create(models[recurrent], **cpu_backend(), session_options(full));
  if (!session) std::abort();
  return std::move(*session);
}

void told(const Error& error) {
  if (error.message.empty()) std::abort();
}

// state_file.cc's header: magic, version, byte order, keys, sizes, checksum.
std::vector<uint8_t> repaired(std::span<const uint8_t> body, const Session& session) {
  const size_t block = session.state_bytes();
  std::vector<uint8_t> file(kHeaderBytes);
  const auto put = [&](size_t at, auto value) { std::memcpy(file.data() + at, &value, sizeof(value)); };
  std::memcpy(file.data(), "LNST\r\n\x1a\n", 8);
  put(8, uint32_t{1});
  put(12, uint32_t{0x01020304});
  put(16, session.engine().state_key());
  put(24, session.model().file().model_id());
  // The block's first bytes come from the input too: the position stands there.
  const size_t of_block = std::min<size_t>(body.size(), 64);
  put(32, uint64_t{body.size() - of_block});
  put(40, uint64_t{block});
  file.insert(file.end(), body.begin() + static_cast<std::ptrdiff_t>(of_block), body.end());
  file.insert(file.end(), body.begin(), body.begin() + static_cast<std::ptrdiff_t>(of_block));
  file.resize(file.size() + block - of_block);
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, file.data(), 56);
  XXH3_64bits_update(&state, file.data() + kHeaderBytes, file.size() - kHeaderBytes);
  put(56, static_cast<uint64_t>(XXH3_64bits_digest(&state)));
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const uint8_t kind = data[0];
  auto session = new_session((kind & 1) != 0, (kind & 2) != 0);
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (kind & 4) bytes = repaired(bytes, *session);
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("linnet-state-" + std::to_string(getpid()))).string();
  {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  if (kind & 8) {
    if (const auto loaded = session->load(path); !loaded) told(loaded.error());
    for (int i = 0; i < 3; ++i)
      if (const auto logits = session->decode(i); !logits) told(logits.error());
    (void)session->rewind(std::max(session->rewind_floor(), session->position() - 1));
    (void)session->decode(1);
  } else {
    ChatOptions options;
    options.max_tokens = 2;
    options.checkpoint_bytes = size_t{64} << 10;
    if (kind & 16) options.prefix_cache = path;
    auto chat = Chat::create(std::move(session), options);
    if (!chat) {  // the prefix cache is no state file
      told(chat.error());
      return 0;
    }
    if (!(kind & 16))
      if (const auto loaded = (*chat)->load(path); !loaded) told(loaded.error());
    if (const auto turn = (*chat)->send("hi"); !turn) told(turn.error());
    if (const auto turn = (*chat)->regenerate(); !turn) told(turn.error());
    (void)(*chat)->undo();
    if (const auto turn = (*chat)->send("a"); !turn) told(turn.error());
  }
  std::filesystem::remove(path);
  return 0;
}
