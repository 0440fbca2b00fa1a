// What a chat keeps in a state file beside the state: history, exact tokens and the text they stand for.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "linnet/chat.h"

namespace linnet {

struct ChatRecord {
  enum class Kind : uint32_t { kChat = 1, kPrefix = 2 };
  Kind kind = Kind::kChat;
  std::vector<Message> messages;
  std::vector<int32_t> tokens;
  std::string text;
  bool exact = true;
  std::optional<int32_t> pending;
  std::string pending_text;
};

// Little endian: "LNCH", version, kind, then counted fields.
std::vector<std::byte> encode_record(const ChatRecord& record);
// Errors: kInvalidFile (not a chat's attachment, newer version, damaged).
Result<ChatRecord> decode_record(std::span<const std::byte> bytes);

}  // namespace linnet
