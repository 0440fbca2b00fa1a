// Every allocation that opening a model, creating a session, talking, painting and the C API make is refused
// once: the answer is an error or success, what was there before is unchanged, and nothing leaks.
#include <cstring>
#include <memory>

#include "linnet/image.h"
#include "linnet/linnet.h"
#include "tests/faults/allocations.h"
#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

std::string converted(const std::string& golden, const char* name) {
  const std::string output = (scratch() / name).string();
  convert::ConvertOptions options;
  options.source = LINNET_GOLDEN "/" + golden;
  options.output = output;
  options.quantize = "q8";
  options.self_test = false;
  must(convert::convert(options));
  return output;
}

SessionOptions small_session(int threads = 1) {
  SessionOptions options;
  options.window = 64;
  options.chunk = 16;
  options.threads = threads;
  options.history_bytes = size_t{1} << 20;
  return options;
}

ChatOptions small_chat() {
  ChatOptions options;
  options.max_tokens = 3;
  options.sampling.temperature = 0.8f;
  options.sampling.repetition_penalty = 1.1f;
  options.checkpoint_bytes = size_t{1} << 20;
  return options;
}

std::vector<Message> talked(Chat& chat) {
  must(chat.send("hi"));
  return chat.messages();
}
bool same(const std::vector<Message>& a, const std::vector<Message>& b) {
  return std::ranges::equal(
      a, b, [](const Message& x, const Message& y) { return x.role == y.role && x.content == y.content; });
}

const char* const kFamilies[] = {"llama", "mamba2", "fla_rwkv7", "naive_mom", "qwen3_next_moe"};

std::shared_ptr<const Model> family(const std::string& name) {
  return must(Model::open(converted("language/" + name + "/model", (name + ".lnt").c_str())));
}

}  // namespace

TEST_CASE("opening a model without memory") {
  const std::string path = converted("language/llama/model", "open.lnt");
  try_every_allocation({"open", [&]() -> Result<void> {
                          LINNET_ASSIGN(const auto model, Model::open(path));
                          return model->vocabulary() > 0 ? Result<void>()
                                                         : fail(ErrorCode::kInternal, "an empty model");
                        }});
}

TEST_CASE("creating a session without memory") {
  for (const char* name : kFamilies) {
    const auto model = family(name);
    for (const int threads : {1, 3}) {
      const SessionOptions options = small_session(threads);
      try_every_allocation({std::string("create ") + name, [&]() -> Result<void> {
                              LINNET_TRY(Session::memory_required(*model, cpu(), options));
                              LINNET_ASSIGN(const auto session, Session::create(model, cpu(), options));
                              LINNET_TRY(session->decode(3));
                              return {};
                            }});
    }
  }
}

TEST_CASE("running allocates nothing, of any kind") {
  for (const char* name : kFamilies) {
    INFO(name);
    const auto model = family(name);
    const auto session = must(Session::create(model, cpu(), small_session(2)));
    std::vector<int32_t> tokens(100);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 250);
    std::vector<std::byte> block(session->state_bytes());
    const int64_t before = allocations();
    bool good = session->prefill(tokens).has_value();
    for (int i = 0; i < 80; ++i) good = good && session->decode(i).has_value();
    good = good && session->decode_largest(5, 40).has_value();
    good = good && session->snapshot(block).has_value() && session->restore(block).has_value();
    if (session->rewind_floor() < session->position())
      good = good && session->rewind(session->position() - 1).has_value();
    good = good && session->decode(9).has_value() && session->reset().has_value();
    const int64_t made = allocations() - before;
    CHECK(good);
    CHECK(made == 0);
  }
}

TEST_CASE("forking, saving and loading a session without memory") {
  const auto model = family("llama");
  const auto session = must(Session::create(model, cpu(), small_session()));
  must(session->prefill(std::vector<int32_t>{1, 2, 3}));
  const std::string path = (scratch() / "session.lnst").string();
  const std::vector<std::byte> attachment(10);
  try_every_allocation({"fork, save, load", [&]() -> Result<void> {
                          LINNET_ASSIGN(const auto other, session->fork());
                          LINNET_TRY(other->save(path, attachment));
                          LINNET_ASSIGN(const auto read, session->load(path));
                          return read.size() == 10 ? Result<void>()
                                                   : fail(ErrorCode::kInternal, "another attachment");
                        }});
  CHECK(session->position() == 3);
}

TEST_CASE("a chat without memory keeps its messages and goes on as if nothing had happened") {
  for (const char* name : {"llama", "mamba2"}) {
    const auto model = family(name);
    const auto new_chat = [&] {
      return must(Chat::create(must(Session::create(model, cpu(), small_session())), small_chat()));
    };
    const auto reference = new_chat();
    const std::vector<Message> first = talked(*reference);
    const Turn expected = must(reference->send("and then?"));

    try_every_allocation({std::string("create chat ") + name, [&]() -> Result<void> {
                            LINNET_ASSIGN(auto session, Session::create(model, cpu(), small_session()));
                            return done(Chat::create(std::move(session), small_chat()));
                          }});

    std::unique_ptr<Chat> chat;
    const auto prepare = [&] {
      chat = new_chat();
      talked(*chat);
    };
    try_every_allocation({std::string("send ") + name,
                          [&]() -> Result<void> { return done(chat->send("and then?")); }, prepare,
                          [&](bool succeeded) {
                            if (!succeeded) {
                              REQUIRE(same(chat->messages(), first));
                              REQUIRE(must(chat->send("and then?")).answer == expected.answer);
                            }
                            REQUIRE(chat->messages().size() == 4);
                            REQUIRE(chat->messages().back().content == expected.answer);
                            chat.reset();
                          }});
    try_every_allocation({std::string("regenerate ") + name,
                          [&]() -> Result<void> { return done(chat->regenerate()); }, prepare,
                          [&](bool succeeded) {
                            REQUIRE(chat->messages().size() == 2);
                            if (!succeeded) REQUIRE(same(chat->messages(), first));
                            chat.reset();
                          }});
    const std::string path = (scratch() / "chat.lnst").string();
    try_every_allocation({std::string("edit, save, load ") + name,
                          [&]() -> Result<void> {
                            LINNET_TRY(chat->save(path));
                            LINNET_TRY(chat->set_system("Be brief."));
                            LINNET_TRY(chat->undo());
                            return chat->load(path);
                          },
                          prepare,
                          [&](bool succeeded) {
                            if (succeeded) REQUIRE(same(chat->messages(), first));
                            (void)must(chat->send("and then?"));
                            chat.reset();
                          }});
  }
}

TEST_CASE("a picture without memory") {
  const auto model = must(Model::open(converted("image/sana_pipeline/model", "painter.lnt")));
  ImageOptions options;
  options.height = options.width = 32;
  ImageRequest request;
  request.prompt = "a bird";
  request.steps = 2;
  try_every_allocation({"create image session", [&]() -> Result<void> {
                          LINNET_TRY(ImageSession::memory_required(*model, cpu(), options));
                          return done(ImageSession::create(model, cpu(), options));
                        }});
  const auto reference = must(must(ImageSession::create(model, cpu(), options))->generate(request));
  std::unique_ptr<ImageSession> session;
  try_every_allocation({"generate", [&]() -> Result<void> { return done(session->generate(request)); },
                        [&] { session = must(ImageSession::create(model, cpu(), options)); },
                        [&](bool) {
                          REQUIRE(must(session->generate(request)).planes == reference.planes);
                          session.reset();
                        }});
}

TEST_CASE("the C API without memory") {
  const std::string path = converted("language/llama/model", "c.lnt");
  const std::string saved = (scratch() / "c.lnst").string();
  const auto of_c = [](linnet_status status, const linnet_error& error) -> Result<void> {
    if (status == LINNET_OK) return {};
    if (std::strlen(error.message) == 0) return fail(ErrorCode::kInternal, "an error without a message");
    return fail(status == LINNET_OUT_OF_MEMORY ? ErrorCode::kOutOfMemory
                : status == LINNET_IO          ? ErrorCode::kIo
                                               : ErrorCode::kInternal,
                "C");
  };
  try_every_allocation({"C API", [&]() -> Result<void> {
                          linnet_error error = {};
                          const linnet_backend* backend = linnet_backend_cpu(&error);
                          if (!backend) return of_c(error.status, error);
                          linnet_model* model = linnet_model_open(path.c_str(), &error);
                          if (!model) return of_c(error.status, error);
                          linnet_chat_options options;
                          linnet_chat_options_init(&options);
                          options.window = 64;
                          options.chunk = 16;
                          options.max_tokens = 2;
                          options.checkpoint_bytes = size_t{1} << 20;
                          linnet_memory memory;
                          linnet_status status =
                              linnet_chat_memory(model, backend, &options, &memory, &error);
                          linnet_chat* chat = status == LINNET_OK
                                                  ? linnet_chat_create(model, backend, &options, &error)
                                                  : nullptr;
                          linnet_model_free(model);
                          if (!chat) return of_c(error.status, error);
                          linnet_turn turn;
                          status = linnet_chat_send(chat, "hi", nullptr, nullptr, &turn, &error);
                          if (status == LINNET_OK)
                            status = linnet_chat_regenerate(chat, nullptr, nullptr, &turn, &error);
                          if (status == LINNET_OK) status = linnet_chat_save(chat, saved.c_str(), &error);
                          if (status == LINNET_OK) status = linnet_chat_load(chat, saved.c_str(), &error);
                          if (status == LINNET_OK) status = linnet_chat_undo(chat, &error);
                          if (status == LINNET_OK) status = linnet_chat_reset(chat, &error);
                          linnet_chat_free(chat);
                          return of_c(status, error);
                        }});
}

}  // namespace linnet::test
