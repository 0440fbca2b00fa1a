// The golden Llama (3 layers, 320 tokens, ChatML, byte-level BPE), converted once for the tests of this
// folder.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "converter/convert.h"
#include "linnet/chat.h"

namespace linnet::test {

// A folder that goes with the process.
inline const std::filesystem::path& scratch() {
  struct Folder {
    std::filesystem::path path;
    Folder() {
      std::string name = (std::filesystem::temp_directory_path() / "linnet-runtime-XXXXXX").string();
      REQUIRE(mkdtemp(name.data()) != nullptr);
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder folder;
  return folder.path;
}

template <typename T>
T must(Result<T> result) {
  INFO((result ? std::string() : result.error().message));
  REQUIRE(result.has_value());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

inline std::shared_ptr<const Model> tiny_model() {
  static const std::shared_ptr<const Model> model = [] {
    convert::ConvertOptions options;
    options.source = LINNET_GOLDEN "/language/llama/model";
    options.output = (scratch() / "tiny.lnt").string();
    options.quantize = "f32";
    options.self_test = false;
    must(convert::convert(options));
    return must(Model::open(options.output));
  }();
  return model;
}

inline const Backend& cpu() {
  static const Backend* const backend = must(cpu_backend());
  return *backend;
}

inline std::unique_ptr<Session> tiny_session(SessionOptions options = {}) {
  return must(Session::create(tiny_model(), cpu(), options));
}

// What a session has in its state.
inline std::vector<std::byte> state_of(const Session& session) {
  std::vector<std::byte> block(session.state_bytes());
  must(session.snapshot(block));
  return block;
}

inline std::unique_ptr<Chat> tiny_chat(ChatOptions options = {}, SessionOptions session = {}) {
  if (options.max_tokens < 0) options.max_tokens = 12;
  return must(Chat::create(tiny_session(session), std::move(options)));
}

}  // namespace linnet::test
