// What the headers say of threads: a Model and a Backend serve sessions, chats and image sessions on several
// threads at once, and each gives what it gives alone. scripts/tsan.sh runs this under ThreadSanitizer.
#include <functional>
#include <thread>

#include "linnet/image.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

// Calls body(i) on `count` threads at once. doctest's checks stay on the test's own thread.
template <typename T>
std::vector<T> on_threads(int count, const std::function<Result<T>(int)>& body) {
  std::vector<Result<T>> results(static_cast<size_t>(count), fail(ErrorCode::kInternal, "not run"));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < count; ++i)
      threads.emplace_back([&, i] { results[static_cast<size_t>(i)] = guarded([&] { return body(i); }); });
  }
  std::vector<T> values;
  for (Result<T>& result : results) values.push_back(must(std::move(result)));
  return values;
}

std::shared_ptr<const Model> converted(const std::string& golden, const std::string& name) {
  convert::ConvertOptions options;
  options.source = LINNET_GOLDEN "/" + golden;
  options.output = (scratch() / (name + ".lnt")).string();
  options.quantize = "q8";
  options.self_test = false;
  must(convert::convert(options));
  return must(Model::open(options.output));
}

std::vector<int32_t> tokens_of(int seed) {
  std::vector<int32_t> tokens(60);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>((i * 37 + static_cast<size_t>(seed) * 101) % 250);
  return tokens;
}

// The logits after a prompt and after each of some tokens.
Result<std::vector<float>> logits_of(const std::shared_ptr<const Model>& model, int threads, int seed) {
  SessionOptions options;
  options.window = 24;
  options.chunk = 16;
  options.threads = threads;
  LINNET_ASSIGN(const auto session, Session::create(model, cpu(), options));
  std::vector<float> all;
  LINNET_ASSIGN(const auto prompt, session->prefill(tokens_of(seed)));
  all.assign(prompt.begin(), prompt.end());
  for (int i = 0; i < 12; ++i) {
    LINNET_ASSIGN(const auto next, session->decode(i + seed));
    all.insert(all.end(), next.begin(), next.end());
  }
  return all;
}

}  // namespace

TEST_CASE("sessions on several threads share a model and a backend") {
  for (const char* golden : {"llama", "mamba2", "qwen3_next_moe"}) {
    INFO(golden);
    const auto model = converted(std::string("language/") + golden + "/model", golden);
    for (const int threads : {1, 2}) {
      const auto found =
          on_threads<std::vector<float>>(2, [&](int i) { return logits_of(model, threads, i); });
      for (int i = 0; i < 2; ++i) CHECK(found[static_cast<size_t>(i)] == must(logits_of(model, threads, i)));
    }
  }
}

TEST_CASE("a session lives on while other threads open and close the model and its sessions") {
  (void)tiny_model();
  const std::string path = (scratch() / "tiny.lnt").string();
  const auto found = on_threads<std::vector<float>>(3, [&](int) -> Result<std::vector<float>> {
    std::vector<float> last;
    for (int round = 0; round < 4; ++round) {
      LINNET_ASSIGN(auto model, Model::open(path));
      LINNET_ASSIGN(last, logits_of(std::move(model), 2, 5));
    }
    return last;
  });
  CHECK(found[0] == found[1]);
  CHECK(found[0] == found[2]);
}

TEST_CASE("a session is handed from one thread to another") {
  SessionOptions options;
  options.threads = 2;
  const auto session = tiny_session(options);
  std::vector<float> found;
  for (int i = 0; i < 4; ++i) {
    std::jthread([&] {
      if (const auto logits = session->decode(i + 1)) found.assign(logits->begin(), logits->end());
    }).join();
  }
  const auto alone = tiny_session(options);
  const auto logits = must(alone->prefill(std::vector<int32_t>{1, 2, 3, 4}));
  CHECK(found == std::vector<float>(logits.begin(), logits.end()));
}

TEST_CASE("chats on several threads share model, tokenizer and template") {
  const auto model = tiny_model();
  const auto talk = [&](int i) -> Result<std::string> {
    SessionOptions session_options;
    session_options.window = 40;
    session_options.threads = 2;
    session_options.history_bytes = size_t{1} << 20;
    ChatOptions options;
    options.max_tokens = 12;
    options.sampling.temperature = 0.9f;
    options.sampling.seed = static_cast<uint64_t>(i);
    options.checkpoint_bytes = size_t{4} << 20;
    LINNET_ASSIGN(auto session, Session::create(model, cpu(), session_options));
    LINNET_ASSIGN(const auto chat, Chat::create(std::move(session), options));
    const std::string path = (scratch() / strf("chat{}.lnst", i)).string();
    std::string said;
    for (const char* message : {"hi", "What is a linnet? <|im_end|>", "\xC3\xA9t\xC3\xA9 12"}) {
      LINNET_ASSIGN(const Turn turn, chat->send(message, [&](std::string_view piece) {
        said += piece;
        return true;
      }));
      LINNET_ASSIGN(const Turn again, chat->regenerate());
      said += turn.answer + again.answer;
    }
    LINNET_TRY(chat->save(path));
    LINNET_TRY(chat->undo());
    LINNET_TRY(chat->load(path));
    LINNET_ASSIGN(const Turn last, chat->send("bye"));
    return said + last.answer;
  };
  const auto found = on_threads<std::string>(3, talk);
  for (int i = 0; i < 3; ++i) CHECK(found[static_cast<size_t>(i)] == must(talk(i)));
}

TEST_CASE("image sessions on several threads share a model") {
  const auto model = converted("image/sana_pipeline/model", "painter");
  const auto paint = [&](int i) -> Result<std::vector<float>> {
    ImageOptions options;
    options.height = options.width = 32;
    options.threads = 2;
    LINNET_ASSIGN(const auto session, ImageSession::create(model, cpu(), options));
    ImageRequest request;
    request.prompt = i == 0 ? "a bird" : "a small house";
    request.steps = 2;
    request.seed = static_cast<uint64_t>(i);
    LINNET_ASSIGN(ImageResult result, session->generate(request));
    return std::move(result.planes);
  };
  const auto found = on_threads<std::vector<float>>(2, paint);
  for (int i = 0; i < 2; ++i) CHECK(found[static_cast<size_t>(i)] == must(paint(i)));
}

}  // namespace linnet::test
