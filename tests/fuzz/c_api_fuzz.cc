// Calls of the C API in any order, with options, texts and pointers' absence as the input says.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "linnet/linnet.h"
#include "tests/fuzz/tiny_files.h"

namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool more() const { return size_ > 0; }
  template <typename T>
  T number() {
    T value{};
    const size_t n = size_ < sizeof(T) ? size_ : sizeof(T);
    std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }
  std::string text() {
    const size_t wanted = number<uint8_t>(), n = wanted < size_ ? wanted : size_;
    std::string value(reinterpret_cast<const char*>(data_), n);
    data_ += n;
    size_ -= n;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

void check(linnet_status status, const linnet_error& error) {
  if (status != error.status) std::abort();
  if (status != LINNET_OK && error.message[0] == '\0') std::abort();
  if (std::memchr(error.message, 0, sizeof(error.message)) == nullptr) std::abort();
}

int stop_sometimes(void* left, const char*, size_t) { return --*static_cast<int*>(left) > 0; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static linnet_model* const model =
      linnet_model_open(linnet::fuzz::converted("language/llama/model").c_str(), nullptr);
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("linnet-c-api-" + std::to_string(getpid()))).string();
  Input in(data, size);
  linnet_error error = {};
  const linnet_backend* backend = linnet_backend_cpu(&error);
  linnet_chat_options options;
  linnet_chat_options_init(&options);
  const std::string system = in.text();
  const auto given = in.number<uint16_t>();
  // Large bounds are for other targets: here they would only be slow.
  if (given & 1) options.threads = in.number<int8_t>() % 4;
  if (given & 2) options.chunk = in.number<int16_t>();
  if (given & 4) options.full_attention = 1;
  options.window = given & 8 ? in.number<int16_t>() : 32;
  if (given & 16) options.sinks = in.number<int16_t>();
  options.context = given & 32 ? in.number<int16_t>() : 256;
  if (given & 64) options.cache_bits = in.number<int8_t>();
  if (given & 128) options.system = system.c_str();
  if (given & 256) options.temperature = in.number<float>();
  if (given & 512) options.top_k = in.number<int32_t>();
  if (given & 1024) options.top_p = in.number<float>();
  if (given & 2048) options.min_p = in.number<float>();
  if (given & 4096) options.repetition_penalty = in.number<float>();
  if (given & 8192) options.raw = 1;
  options.checkpoint_bytes = given & 16384 ? in.number<uint32_t>() % (1u << 22) : size_t{1} << 16;
  if (given & 32768) options.state_bits = in.number<int8_t>();
  options.max_tokens = 4;
  linnet_memory memory;
  check(linnet_chat_memory(model, backend, &options, &memory, &error), error);
  linnet_chat* chat = linnet_chat_create(model, backend, &options, &error);
  if (!chat) {
    check(error.status, error);
    return 0;
  }
  for (int calls = 0; in.more() && calls < 12; ++calls) {
    const auto what = in.number<uint8_t>();
    int left = what >> 4;
    linnet_turn turn;
    linnet_status status = LINNET_OK;
    switch (what % 8) {
      case 0:
      case 1:
        status = linnet_chat_send(chat, in.text().c_str(), stop_sometimes, &left, what & 8 ? &turn : nullptr,
                                  &error);
        break;
      case 2:
        status = linnet_chat_regenerate(chat, nullptr, nullptr, &turn, &error);
        break;
      case 3:
        status = linnet_chat_undo(chat, &error);
        break;
      case 4:
        status = linnet_chat_reset(chat, &error);
        break;
      case 5:
        status = linnet_chat_save(chat, path.c_str(), &error);
        break;
      case 6:
        status = linnet_chat_load(chat, path.c_str(), &error);
        break;
      default:
        if (!linnet_chat_answer(chat)) std::abort();
        continue;
    }
    check(status, error);
  }
  linnet_chat_free(chat);
  unlink(path.c_str());
  return 0;
}
