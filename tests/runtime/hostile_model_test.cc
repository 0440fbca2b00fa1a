// Model files made to do harm whose head is sound in form: each is refused by name when it is opened or
// planned, and in no time. What the mutators of tests/fuzz find becomes a case here.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "format/head.h"
#include "format/verify.h"
#include "runtime/engine/engine.h"
#include "tests/contains.h"
#include "tests/fuzz/lnt_mutator.h"
#include "tests/runtime/tiny_model.h"
#include "tests/sanitized.h"

namespace linnet::test {
namespace {

using testing::contains;

// The tiny Llama's head with a change, as a file in memory.
std::vector<std::byte> changed(const std::function<void(fb::ModelT&)>& change) {
  fb::ModelT model(tiny_model()->file().model());
  change(model);
  fuzz::lay_out_weights(model);
  return fuzz::file_of_head(must(format::encode_head(model)));
}

Result<std::shared_ptr<const format::ModelFile>> open_changed(
    const std::function<void(fb::ModelT&)>& change) {
  LINNET_ASSIGN(format::ModelFile file, format::ModelFile::from_memory(changed(change)));
  LINNET_TRY(graph::check_model(file.model()));
  return std::make_shared<const format::ModelFile>(std::move(file));
}

std::string refusal(const std::function<void(fb::ModelT&)>& change) {
  const auto opened = open_changed(change);
  REQUIRE(!opened);
  CHECK(opened.error().code == ErrorCode::kInvalidFile);
  return opened.error().message;
}

void for_each_dim(fb::ModelT& model, int symbol, const std::function<void(fb::Dim&)>& change) {
  for (auto& method : model.methods)
    for (auto& value : method->values)
      for (fb::Dim& dim : value->shape)
        if (dim.symbol() == symbol) change(dim);
}

double processor_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// A method that activates an image [height, width, 1] `count` times over.
void chain(fb::ModelT& model, size_t count, int64_t height, int64_t width) {
  auto method = std::make_unique<fb::MethodT>();
  method->name = "chain";
  const auto add_value = [&] {
    auto value = std::make_unique<fb::ValueT>();
    value->name = "v" + std::to_string(method->values.size());
    value->shape = {graph::fixed_dim(height), graph::fixed_dim(width), graph::fixed_dim(1)};
    method->values.push_back(std::move(value));
    return static_cast<int32_t>(method->values.size() - 1);
  };
  method->inputs = {add_value()};
  for (size_t i = 0; i < count; ++i) {
    auto node = std::make_unique<fb::NodeT>();
    node->name = "n" + std::to_string(i);
    fb::PointwiseT pointwise;
    pointwise.kind = fb::PointwiseKind::Activate;
    pointwise.activation = fb::Activation::Relu;
    node->args.Set(std::move(pointwise));
    node->inputs = {static_cast<int32_t>(i)};
    node->outputs = {add_value()};
    method->nodes.push_back(std::move(node));
  }
  method->outputs = {static_cast<int32_t>(method->values.size() - 1)};
  model.methods.clear();
  model.methods.push_back(std::move(method));
  model.states.clear();
  model.tokenizer.reset();
}

EngineOptions small_bounds() {
  EngineOptions options;
  options.symbols = {{"tokens", 8}, {"logit_tokens", 8}, {"context", 16}};
  options.attention.full = true;
  return options;
}

}  // namespace

TEST_CASE("a dimension that is legal at its bound and not below it is refused when the file is opened") {
  const int tokens = graph::find_symbol(tiny_model()->file().model(), "tokens");
  // tokens - 1: no row for one token; tokens / 2: none either; tokens - 256: negative.
  for (const int64_t add : {-1, -256}) {
    const std::string said = refusal([&](fb::ModelT& model) {
      for_each_dim(model, tokens, [&](fb::Dim& dim) { dim = fb::Dim(tokens, 1, 1, add); });
    });
    CHECK(contains(said, "tokens"));
    CHECK(contains(said, add == -1 ? "is 0" : "is -255"));
  }
  CHECK(contains(refusal([&](fb::ModelT& model) {
                   for_each_dim(model, tokens, [&](fb::Dim& dim) { dim = fb::Dim(tokens, 1, 2, 0); });
                 }),
                 "is 0"));
  CHECK(open_changed([&](fb::ModelT& model) {
    for_each_dim(model, tokens, [&](fb::Dim& dim) { dim = fb::Dim(tokens, 2, 1, -1); });
  }));
}

TEST_CASE("logits have no more rows than there are tokens") {
  const fb::ModelT& tiny = tiny_model()->file().model();
  const int tokens = graph::find_symbol(tiny, "tokens"), wanted = graph::find_symbol(tiny, "logit_tokens");
  for (const fb::Dim& rows : {fb::Dim(wanted, 1, 1, 5), fb::Dim(wanted, 3, 1, 0), fb::Dim(tokens, 2, 1, 0)})
    CHECK(contains(
        refusal([&](fb::ModelT& model) { for_each_dim(model, wanted, [&](fb::Dim& dim) { dim = rows; }); }),
        "logit"));
  const auto engine = must(Engine::create(tiny_model()->shared_file(), reference_backend(), small_bounds()));
  std::vector<int64_t> symbols = engine->bounds().symbols;
  symbols[static_cast<size_t>(tokens)] = 2;
  const auto ran = engine->run(0, symbols, 2);
  REQUIRE(!ran);
  CHECK(ran.error().code == ErrorCode::kInvalidArgument);
  CHECK(contains(ran.error().message, "8"));
  symbols[static_cast<size_t>(wanted)] = 2;
  CHECK(engine->run(0, symbols, 2));
  symbols[static_cast<size_t>(tokens)] = 0;
  CHECK(!engine->run(0, symbols, 0));
}

TEST_CASE("files of more parts than any model has are refused before they are planned") {
  const double start = processor_seconds();
  CHECK(contains(refusal([](fb::ModelT& model) { chain(model, 60000, 4, 4); }), "node"));
  CHECK(contains(refusal([](fb::ModelT& model) {
                   const fb::StateT state = *model.states[0];
                   for (int i = 0; i < 131072; ++i) {
                     model.states.push_back(std::make_unique<fb::StateT>(state));
                     model.states.back()->name = "s" + std::to_string(i);
                   }
                 }),
                 "state"));
  CHECK(contains(refusal([](fb::ModelT& model) { model.methods[0]->nodes[1]->inputs.resize(1000, -1); }),
                 "1000"));
  CHECK(processor_seconds() - start < 5);
}

TEST_CASE("the largest graphs are planned within a second") {
  for (const bool bands : {false, true}) {
    const auto file = must(open_changed([&](fb::ModelT& model) {
      chain(model, format::kMaxNodes - 1, bands ? 1 << 20 : 4, bands ? 4 : 16);
    }));
    EngineOptions options = small_bounds();
    options.band_bytes = bands ? 1 << 10 : size_t{64} << 20;
    const double start = processor_seconds();
    const auto memory = Engine::memory_required(*file, cpu(), options);
    CHECK(processor_seconds() - start < (testing::kSanitized ? 10 : 1));
    CHECK(memory);
  }
}

TEST_CASE("sizes that wrap are refused with the numbers") {
  const auto opened = must(open_changed([](fb::ModelT& model) {
    const fb::StateT state = *model.states[0];
    for (int i = 0; i < 8000; ++i) {
      model.states.push_back(std::make_unique<fb::StateT>(state));
      model.states.back()->name = "s" + std::to_string(i);
      model.states.back()->role = fb::StateRole::Recurrent;
      model.states.back()->shape = {graph::fixed_dim(int64_t{1} << 40), graph::fixed_dim(4)};
    }
  }));
  const auto engine = Engine::create(opened, cpu(), small_bounds());
  REQUIRE(!engine);
  CHECK(engine.error().code == ErrorCode::kOutOfMemory);
}

TEST_CASE("what is planned is held to a limit, and the error has the numbers") {
  SessionOptions options;
  const SessionMemory need = must(Session::memory_required(*tiny_model(), cpu(), options));
  const size_t planned = need.state_bytes + need.work_bytes + need.backend_bytes + need.history_bytes;
  options.memory_limit = planned - 1;
  const auto refused = Session::create(tiny_model(), cpu(), options);
  REQUIRE(!refused);
  CHECK(refused.error().code == ErrorCode::kOutOfMemory);
  CHECK(contains(refused.error().message, std::to_string(planned)));
  CHECK(contains(refused.error().message, std::to_string(planned - 1)));
  CHECK(contains(refused.error().message, "--memory-limit"));
  options.memory_limit = planned;
  CHECK(Session::create(tiny_model(), cpu(), options));
  // Without a limit of one's own: more than this machine has.
  options = {};
  options.full_attention = true;
  options.context = int64_t{1} << 31;
  const auto large = Session::create(tiny_model(), cpu(), options);
  REQUIRE(!large);
  CHECK(large.error().code == ErrorCode::kOutOfMemory);
}

TEST_CASE("a state's position is held to what a session can have reached") {
  SessionOptions options;
  options.full_attention = true;
  options.context = 32;
  const auto session = tiny_session(options);
  must(session->prefill(std::vector<int32_t>{1, 2, 3}));
  std::vector<std::byte> block = state_of(*session);
  for (const int64_t position : {int64_t{-1}, int64_t{33}, int64_t{1} << 62, INT64_MAX}) {
    std::memcpy(block.data(), &position, sizeof(position));
    const auto restored = session->restore(block);
    REQUIRE(!restored);
    CHECK(restored.error().code == ErrorCode::kInvalidFile);
    CHECK(session->position() == 3);
  }
  const auto windowed = tiny_session();
  block = state_of(*windowed);
  for (const int64_t position : {int64_t{1} << 62, INT64_MAX}) {
    std::memcpy(block.data(), &position, sizeof(position));
    CHECK(!windowed->restore(block));
  }
}

TEST_CASE("a mapped model that another program changes is an error, not the end") {
  const auto folder = scratch() / "mapped";
  std::filesystem::create_directories(folder);
  // Large enough to be mapped.
  const std::vector<std::byte> bytes = changed([](fb::ModelT& model) {
    model.metadata.push_back(std::make_unique<fb::KeyValueT>());
    model.metadata.back()->key = "padding";
    model.metadata.back()->value = std::string(size_t{20} << 20, 'x');
  });
  const auto write = [&](const std::filesystem::path& path, size_t size) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(size));
  };
  for (const char* what : {"truncated", "written", "renamed", "small"}) {
    INFO(what);
    const std::filesystem::path path = folder / (std::string(what) + ".lnt");
    const std::string kind = what;
    write(path, bytes.size());
    if (kind == "small")
      std::filesystem::copy_file(scratch() / "tiny.lnt", path,
                                 std::filesystem::copy_options::overwrite_existing);
    // In a child: a SIGBUS would end it.
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const auto model = Model::open(path.string());
      if (!model) _exit(2);
      const auto session = Session::create(*model, cpu(), {});
      if (!session || !(*session)->decode(1)) _exit(3);
      if (kind == "renamed") {
        write(folder / "new", 100);
        std::filesystem::rename(folder / "new", path);
      } else if (kind == "written") {
        std::ofstream(path, std::ios::binary | std::ios::in).write("x", 1);
      } else {
        std::filesystem::resize_file(path, 100);
      }
      const auto after = (*session)->decode(2);
      if (kind == "renamed" || kind == "small") _exit(after ? 0 : 4);
      if (after) _exit(5);
      const std::string& said = after.error().message;
      _exit(after.error().code == ErrorCode::kIo && contains(said, path.string()) &&
                    contains(said, "open it again")
                ? 0
                : 6);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

}  // namespace linnet::test
