// Files of conversation state: what is refused, and that a refusal changes nothing.
#include "runtime/session/state_file.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_all(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<int32_t> some_tokens() {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(i * 7 % 320);
  return tokens;
}

}  // namespace

TEST_CASE("a state file is refused whatever byte of it is wrong, and the session stays as it was") {
  const auto path = (scratch() / "session.state").string(), bad = (scratch() / "bad.state").string();
  SessionOptions options;
  options.window = 24;
  options.chunk = 8;
  const auto writer = tiny_session(options), reader = tiny_session(options);
  must(writer->prefill(some_tokens()));
  const std::vector<std::byte> note(100, std::byte{7});
  must(writer->save(path, note));
  CHECK(must(reader->load(path)) == note);
  CHECK(state_of(*reader) == state_of(*writer));
  CHECK_FALSE(std::filesystem::exists(path + ".part"));

  const auto other = tiny_session(options);
  must(other->prefill(std::vector<int32_t>{5, 6, 7}));
  const auto before = state_of(*other);
  const std::string good = read_all(path);
  const auto refused = [&](const std::string& bytes) {
    write_all(bad, bytes);
    const auto loaded = other->load(bad);
    CHECK_FALSE(loaded);
    return loaded ? std::string() : loaded.error().message;
  };
  for (size_t at = 0; at < good.size(); at += at < 200 ? 1 : 997) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    const std::string message = refused(damaged);
    INFO(at);
    CHECK(message.find(bad) != std::string::npos);
  }
  for (const size_t length : {size_t{0}, size_t{5}, size_t{63}, size_t{64}, good.size() / 2, good.size() - 1})
    refused(good.substr(0, length));
  refused(good + "x");
  std::string newer = good;
  newer[8] = 2;  // the version
  CHECK(refused(newer).find("version 2") != std::string::npos);
  CHECK(refused("not a state at all, but long enough to be taken for one if nobody looked closely enough")
            .find("not a Linnet state file") != std::string::npos);
  CHECK(other->load((scratch() / "absent.state").string()).error().code == ErrorCode::kNotFound);
  CHECK(state_of(*other) == before);
  CHECK(other->position() == 3);
}

TEST_CASE("a state of another model or of other bounds is refused by name") {
  const auto path = (scratch() / "named.state").string();
  const auto writer = tiny_session();
  must(writer->prefill(some_tokens()));
  must(writer->save(path));
  SessionOptions options;
  options.cache = CachePrecision::kF32;
  CHECK(tiny_session(options)->load(path).error().message.find("cache precision") != std::string::npos);
  options = {};
  options.sinks = 5;
  CHECK(tiny_session(options)->load(path).error().message.find("window") != std::string::npos);

  convert::ConvertOptions convert;
  convert.source = LINNET_GOLDEN "/language/mistral_window/model";
  convert.output = (scratch() / "other.lnt").string();
  convert.quantize = "f32";
  convert.self_test = false;
  must(convert::convert(convert));
  const auto other = must(Session::create(must(Model::open(convert.output)), cpu(), {}));
  CHECK(other->load(path).error().message.find("another model") != std::string::npos);
}

}  // namespace linnet::test
