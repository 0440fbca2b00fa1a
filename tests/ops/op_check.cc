#include "tests/ops/op_check.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "backends/reference/reference.h"
#include "format/panel.h"
#include "format/writer.h"
#include "runtime/core/strings.h"
#include "tests/compare.h"
#include "tests/ops/op_traits.h"
#include "tests/ops/tested_backends.h"
#include "tests/sanitized.h"
#include "tests/vulkan_device.h"

namespace linnet::testing {

const Extent kTokens{std::string("tokens")};
const Extent kContext{std::string("context")};

uint64_t Random::next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
int64_t Random::pick(int64_t least, int64_t most) {
  return least + static_cast<int64_t>(next() % static_cast<uint64_t>(most - least + 1));
}
float Random::uniform(float low, float high) {
  const auto unit = static_cast<double>(next() >> 11) * 0x1p-53;
  return static_cast<float>(static_cast<double>(low) +
                            (static_cast<double>(high) - static_cast<double>(low)) * unit);
}
float Random::normal() {
  const double u = (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53;
  const double v = static_cast<double>(next() >> 11) * 0x1p-53;
  return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
}

Fill uniform(float low, float high) {
  return [=](Random& random, std::span<float> values) {
    for (float& v : values) v = random.uniform(low, high);
  };
}
Fill normal(float scale) {
  return [=](Random& random, std::span<float> values) {
    for (float& v : values) v = scale * random.normal();
  };
}
Fill exactly(std::vector<float> given) {
  return [given = std::move(given)](Random&, std::span<float> values) {
    REQUIRE_MESSAGE(given.size() == values.size(), "values given: ", given.size(),
                    ", needed: ", values.size());
    std::copy(given.begin(), given.end(), values.begin());
  };
}

struct OpCase {
  struct WeightData {
    std::string name;
    DType dtype;
    fb::Layout layout;
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  struct Input {
    std::vector<std::byte> bytes;  // of the whole sequence
    size_t row_bytes = 0;          // of one token; 0: fed whole
    size_t value = 0;
  };
  struct Output {
    size_t value = 0, row_values = 0;  // per token; 0: not by token
    std::vector<fb::Dim> shape;
  };
  fb::ModelT model;
  fb::MethodT* method = nullptr;
  fb::NodeT* node = nullptr;
  std::vector<WeightData> weights;
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  std::vector<std::pair<size_t, std::vector<float>>> initial_states;
  std::vector<int64_t> symbols;  // actual values; 0 is tokens, 1 is context
  std::vector<int64_t> bounds;   // of each; that of tokens is the largest piece
  EngineOptions options;
  int64_t tokens = 1;
  double scale = 2e-6, absolute = 1e-7, state_scale = 0;  // 0: as the outputs
  std::function<double(size_t, size_t)> allowed;
  bool exact_pieces = false, states_may_be_zero = false;
  std::shared_ptr<const format::ModelFile> file;

  bool by_token() const {
    for (const Output& output : outputs)
      if (output.row_values == 0) return false;
    return true;
  }
};

namespace {

// A folder in memory where there is one: the writer waits for the disk.
std::filesystem::path temporary_file() {
  std::error_code error;
  const std::filesystem::path shared = "/dev/shm";
  const auto folder = std::filesystem::exists(shared, error) && access(shared.c_str(), W_OK) == 0
                          ? shared
                          : std::filesystem::temp_directory_path(error);
  static int count = 0;
  return folder / strf("linnet_op_check_{}_{}.lnt", static_cast<int64_t>(getpid()), ++count);
}

Result<format::ModelFile> write_and_open(OpCase& op, const std::filesystem::path& path) {
  LINNET_ASSIGN(format::ModelWriter writer, format::ModelWriter::create(path));
  for (const OpCase::WeightData& weight : op.weights) {
    const auto k = static_cast<size_t>(weight.shape.back());
    if (weight.layout == fb::Layout::Panel) {
      LINNET_TRY(
          writer.pack_and_write_matrix(weight.name, weight.dtype, weight.shape,
                                       [&](int64_t first, int64_t rows, float* values) -> Result<void> {
                                         std::copy_n(&weight.values[static_cast<size_t>(first) * k],
                                                     static_cast<size_t>(rows) * k, values);
                                         return {};
                                       }));
      continue;
    }
    LINNET_TRY(writer.begin_weight(weight.name, weight.dtype, weight.layout, weight.shape));
    LINNET_TRY(writer.write(std::as_bytes(std::span(weight.values))));
    LINNET_TRY(writer.end_weight());
  }
  LINNET_TRY(writer.finish(std::move(op.model)));
  return format::ModelFile::open(path);
}

int64_t elements(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

}  // namespace

OpBuilder::OpBuilder(Random& random, int64_t tokens) : case_(std::make_unique<OpCase>()), random_(random) {
  case_->tokens = tokens;
  auto method = std::make_unique<fb::MethodT>();
  method->name = "forward";
  method->nodes.push_back(std::make_unique<fb::NodeT>());
  method->nodes[0]->name = "node";
  case_->method = method.get();
  case_->node = method->nodes[0].get();
  case_->model.methods.push_back(std::move(method));
  symbol("tokens", tokens);
  symbol("context", tokens);
}
OpBuilder::~OpBuilder() = default;

fb::NodeT& OpBuilder::node() { return *case_->node; }
int64_t OpBuilder::tokens() const { return case_->tokens; }
void OpBuilder::set_tokens(int64_t tokens) {
  REQUIRE_MESSAGE(case_->inputs.empty(), "set_tokens() comes before the first input");
  case_->tokens = tokens;
  case_->symbols[0] = case_->symbols[1] = case_->bounds[0] = case_->bounds[1] = tokens;
}
EngineOptions& OpBuilder::options() { return case_->options; }
void OpBuilder::tolerance(double scale, double absolute) {
  case_->scale = scale;
  case_->absolute = absolute;
}
void OpBuilder::state_tolerance(double scale) { case_->state_scale = scale; }
void OpBuilder::tolerance(std::function<double(size_t, size_t)> allowed) {
  case_->allowed = std::move(allowed);
}
void OpBuilder::exact_pieces() { case_->exact_pieces = true; }
void OpBuilder::states_may_be_zero() { case_->states_may_be_zero = true; }

void OpBuilder::symbol(const std::string& name, int64_t value, int64_t bound) {
  auto symbol = std::make_unique<fb::SymbolT>();
  symbol->name = name;
  case_->model.symbols.push_back(std::move(symbol));
  case_->symbols.push_back(value);
  case_->bounds.push_back(std::max(value, bound));
}

std::vector<fb::Dim> OpBuilder::dims(const std::vector<Extent>& shape) const {
  std::vector<fb::Dim> result;
  for (const Extent& extent : shape) {
    if (extent.symbol.empty()) {
      result.push_back(graph::fixed_dim(extent.value));
      continue;
    }
    const int symbol = graph::find_symbol(case_->model, extent.symbol);
    REQUIRE_MESSAGE(symbol >= 0, "unknown symbol ", extent.symbol);
    result.emplace_back(symbol, extent.factor, 1, 0);
  }
  return result;
}

size_t OpBuilder::add_value(const char* what, DType dtype, const std::vector<Extent>& shape) {
  auto value = std::make_unique<fb::ValueT>();
  value->name = strf("{}{}", what, case_->method->values.size());
  value->dtype = static_cast<fb::DType>(dtype);
  value->shape = dims(shape);
  case_->method->values.push_back(std::move(value));
  return case_->method->values.size() - 1;
}

void OpBuilder::add_input(DType dtype, const std::vector<Extent>& shape, std::vector<std::byte> bytes) {
  const size_t value = add_value("input", dtype, shape);
  case_->method->inputs.push_back(static_cast<int>(value));
  node().inputs.push_back(static_cast<int>(value));
  const bool by_token = shape[0].symbol == kTokens.symbol;
  const size_t row = by_token ? bytes.size() / static_cast<size_t>(case_->tokens) : 0;
  case_->inputs.push_back({std::move(bytes), row, value});
}

void OpBuilder::input(std::vector<Extent> shape, const Fill& fill) {
  int64_t count = 1;
  for (const fb::Dim& dim : dims(shape)) count *= graph::dim_value(dim, case_->symbols);
  std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(float));
  fill(random_, {reinterpret_cast<float*>(bytes.data()), static_cast<size_t>(count)});
  add_input(DType::kF32, shape, std::move(bytes));
}
void OpBuilder::input_ids(int64_t below) {
  std::vector<int32_t> ids(static_cast<size_t>(case_->tokens));
  for (int32_t& id : ids) id = static_cast<int32_t>(random_.pick(0, below - 1));
  input_ids(std::move(ids));
}
void OpBuilder::input_ids(std::vector<int32_t> ids) {
  std::vector<std::byte> bytes(ids.size() * sizeof(int32_t));
  std::memcpy(bytes.data(), ids.data(), bytes.size());
  add_input(DType::kI32, {kTokens}, std::move(bytes));
}
void OpBuilder::absent_input() {
  node().inputs.push_back(-1);
  case_->inputs.push_back({});
}

void OpBuilder::add_weight(DType dtype, fb::Layout layout, std::vector<int64_t> shape, const Fill& fill) {
  std::vector<float> values(static_cast<size_t>(elements(shape)));
  fill(random_, values);
  node().weights.push_back(static_cast<int>(case_->weights.size()));
  case_->weights.push_back(
      {strf("weight{}", case_->weights.size()), dtype, layout, std::move(shape), std::move(values)});
}
void OpBuilder::matrix(DType dtype, int64_t n, int64_t k, const Fill& fill) {
  add_weight(dtype, fb::Layout::Panel, {n, k}, fill);
}
void OpBuilder::matrices(DType dtype, int64_t experts, int64_t n, int64_t k, const Fill& fill) {
  add_weight(dtype, fb::Layout::Panel, {experts, n, k}, fill);
}
void OpBuilder::vector(std::vector<int64_t> shape, const Fill& fill) {
  add_weight(DType::kF32, fb::Layout::RowMajor, std::move(shape), fill);
}
void OpBuilder::absent_weight() { node().weights.push_back(-1); }

size_t OpBuilder::weight_count() const { return case_->weights.size(); }

std::vector<float> OpBuilder::stored_matrix(size_t index) const {
  const OpCase::WeightData& weight = case_->weights[index];
  const int64_t k = weight.shape.back(), rows = elements(weight.shape) / k,
                n = weight.shape[weight.shape.size() - 2];
  std::vector<float> values(weight.values.size());
  std::vector<std::byte> panel(format::panel_bytes(weight.dtype, k));
  for (int64_t first = 0; first < rows; first += n) {
    for (int64_t r = 0; r < n; r += format::kPanelRows) {
      const int64_t count = std::min(format::kPanelRows, n - r);
      format::pack_panel(weight.dtype, &weight.values[static_cast<size_t>((first + r) * k)], count, k,
                         panel.data());
      for (int64_t i = 0; i < count; ++i)
        format::unpack_panel_row(weight.dtype, panel.data(), i, k,
                                 &values[static_cast<size_t>((first + r + i) * k)]);
    }
  }
  return values;
}
std::span<const float> OpBuilder::input_values(size_t index) const {
  const OpCase::Input& input = case_->inputs[index];
  return {reinterpret_cast<const float*>(input.bytes.data()), input.bytes.size() / sizeof(float)};
}

void OpBuilder::state(fb::StateRole role, std::vector<Extent> shape, float initial) {
  auto state = std::make_unique<fb::StateT>();
  state->name = strf("state{}", case_->model.states.size());
  state->dtype = fb::DType::F32;
  state->role = role;
  state->shape = dims(shape);
  state->initial = initial;
  node().states.push_back(static_cast<int>(case_->model.states.size()));
  case_->model.states.push_back(std::move(state));
}
void OpBuilder::initial_state(size_t index, const Fill& fill) {
  int64_t count = 1;
  for (const fb::Dim& dim : case_->model.states[index]->shape) count *= graph::dim_value(dim, case_->symbols);
  std::vector<float> values(static_cast<size_t>(count));
  fill(random_, values);
  case_->initial_states.emplace_back(index, std::move(values));
}

void OpBuilder::output(std::vector<Extent> shape) {
  const size_t value = add_value("output", DType::kF32, shape);
  case_->method->outputs.push_back(static_cast<int>(value));
  node().outputs.push_back(static_cast<int>(value));
  OpCase::Output output{value, 0, dims(shape)};
  if (shape[0].symbol == kTokens.symbol) {
    output.row_values = 1;
    for (size_t i = 1; i < output.shape.size(); ++i)
      output.row_values *= static_cast<size_t>(graph::dim_value(output.shape[i], case_->symbols));
  }
  case_->outputs.push_back(std::move(output));
}

std::shared_ptr<const OpCase> OpBuilder::finish() {
  const std::filesystem::path path = temporary_file();
  auto file = write_and_open(*case_, path);
  std::error_code error;
  std::filesystem::remove(path, error);  // the mapping lives on
  REQUIRE_MESSAGE(file.has_value(), (file ? std::string() : file.error().message));
  case_->file = std::make_shared<const format::ModelFile>(std::move(*file));
  case_->method = nullptr;  // the model has gone into the file
  case_->node = nullptr;
  return std::shared_ptr<const OpCase>(std::move(case_));
}

namespace {

Result<std::unique_ptr<Engine>> create_engine(const OpCase& op, const Backend& backend, int threads,
                                              int64_t most_tokens) {
  EngineOptions options = op.options;
  options.threads = threads;
  for (size_t i = 0; i < op.symbols.size(); ++i)
    options.symbols.emplace_back(op.file->model().symbols[i]->name, i == 0 ? most_tokens : op.bounds[i]);
  return Engine::create(op.file, backend, options);
}

Result<OpRun> run(const OpCase& op, const Backend& backend, int threads, std::vector<int64_t> pieces) {
  if (pieces.empty()) pieces = {op.tokens};
  LINNET_ASSIGN(const std::unique_ptr<Engine> engine,
                create_engine(op, backend, threads, *std::max_element(pieces.begin(), pieces.end())));
  std::vector<std::byte> block(engine->state_bytes());
  if (!op.initial_states.empty()) {
    LINNET_TRY(engine->snapshot(block));
    for (const auto& [index, values] : op.initial_states) {
      const plan::StatePlan& state = engine->plan().states[index];
      REQUIRE(state.bytes == values.size() * sizeof(float));
      std::memcpy(&block[state.offset], values.data(), state.bytes);
    }
    LINNET_TRY(engine->restore(block));
  }
  OpRun result;
  result.outputs.resize(op.outputs.size());
  std::vector<int64_t> symbols = op.symbols;
  size_t done = 0;
  for (const int64_t piece : pieces) {
    symbols[0] = piece;
    for (const OpCase::Input& input : op.inputs) {
      if (input.bytes.empty()) continue;
      auto bytes = std::span(input.bytes);
      if (input.row_bytes > 0)
        bytes = bytes.subspan(done * input.row_bytes, static_cast<size_t>(piece) * input.row_bytes);
      LINNET_TRY(engine->write_value(0, input.value, bytes));
    }
    LINNET_TRY(engine->run(0, symbols, piece));
    for (size_t i = 0; i < op.outputs.size(); ++i) {
      size_t count = 1;
      for (const fb::Dim& dim : op.outputs[i].shape)
        count *= static_cast<size_t>(graph::dim_value(dim, symbols));
      std::vector<float>& all = result.outputs[i];
      all.resize(all.size() + count);
      LINNET_TRY(
          engine->read_value(0, op.outputs[i].value, std::as_writable_bytes(std::span(all).last(count))));
    }
    done += static_cast<size_t>(piece);
  }
  LINNET_TRY(engine->snapshot(block));
  for (const plan::StatePlan& state : engine->plan().states) {
    std::vector<float>& values = result.states.emplace_back();
    if (state.dtype == DType::kF32) {
      values.resize(state.bytes / sizeof(float));
      std::memcpy(values.data(), &block[state.offset], state.bytes);
    } else if (state.dtype == DType::kF16) {
      std::vector<uint16_t> halfs(state.bytes / sizeof(uint16_t));
      std::memcpy(halfs.data(), &block[state.offset], state.bytes);
      std::transform(halfs.begin(), halfs.end(), std::back_inserter(values), f16_to_f32);
    }
  }
  return result;
}

// Recurrent states are compared like outputs; a ring's slots differ with the chunk it was planned for.
std::vector<size_t> recurrent_states(const OpCase& op) {
  std::vector<size_t> indices;
  const auto& states = op.file->model().states;
  for (size_t i = 0; i < states.size(); ++i)
    if (states[i]->role == fb::StateRole::Recurrent) indices.push_back(i);
  return indices;
}

// How two results are compared. `label` names the bound in the record of what was reached, whatever the seed.
struct Comparison {
  std::string what, label;
  std::function<double(size_t)> allowed;
  Truth truth = Truth::kFinite;
};

bool agree(float found, float expected, double allowed, Truth truth, double& excess) {
  const auto a = static_cast<double>(found), b = static_cast<double>(expected);
  excess = 0;
  if (!std::isfinite(a) || !std::isfinite(b)) {
    excess = INFINITY;
    return truth == Truth::kAsGiven && (a == b || (std::isnan(a) && std::isnan(b)));
  }
  if (a == b) return true;
  excess = std::fabs(a - b) / allowed;
  return excess <= 1;
}

void compare(const Comparison& how, const std::vector<float>& found, const std::vector<float>& expected) {
  const std::string& what = how.what;
  REQUIRE_MESSAGE(found.size() == expected.size(), what, ": ", found.size(), " values, expected ",
                  expected.size());
  REQUIRE_MESSAGE(!expected.empty(), what, ": nothing to compare");
  double largest = 0, most = 0;
  size_t worst = found.size(), count = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double allowed = how.allowed(i);
    if (!std::isfinite(allowed)) FAIL(what, ": the allowance of element ", i, " is not finite");
    double excess = 0;
    const bool agrees = agree(found[i], expected[i], allowed, how.truth, excess);
    if (std::isfinite(excess)) most = std::max(most, excess);
    if (agrees) continue;
    ++count;
    if (worst == found.size() || excess > largest) {
      largest = excess;
      worst = i;
    }
  }
  if (!how.label.empty()) note_reached(how.label, count ? std::max(most, largest) : most, 1);
  const bool fits = count == 0;
  CHECK_MESSAGE(fits, what, ": ", count, " of ", found.size(), " elements differ; element ", worst, " is ",
                worst < found.size() ? found[worst] : 0.0f, ", expected ",
                worst < found.size() ? expected[worst] : 0.0f, ", ", largest, " times the allowance");
}

// What all other runs of a case are compared with.
void check_reference(const OpCase& op, const std::string& where, const OpRun& truth) {
  REQUIRE_MESSAGE(!truth.outputs.empty(), where, "no outputs");
  for (size_t i = 0; i < truth.outputs.size(); ++i)
    check_truth(where + strf("output {}", i), truth.outputs[i]);
  for (const size_t i : recurrent_states(op)) {
    const std::string name = where + strf("state {}", i);
    if (op.states_may_be_zero)
      REQUIRE_MESSAGE(std::isfinite(largest_magnitude(truth.states[i])), name, ": the truth is not finite");
    else
      check_truth(name, truth.states[i]);
  }
}

void compare_runs(const OpCase& op, const std::string& what, const std::string& label, const OpRun& found,
                  const OpRun& expected, bool exact) {
  const auto one = [&](const std::string& name, const std::vector<float>& a, const std::vector<float>& b,
                       double scale, const std::function<double(size_t)>& own) {
    const double most = largest_magnitude(b);
    const auto allowed = [&](size_t i) {
      if (exact) return 0.0;
      return own ? own(i) : (scale > 0 ? scale : op.scale) * most + op.absolute;
    };
    compare({what + ", " + name, exact ? std::string() : label + ", " + name, allowed}, a, b);
  };
  REQUIRE(found.outputs.size() == expected.outputs.size());
  REQUIRE(found.states.size() == expected.states.size());
  for (size_t i = 0; i < expected.outputs.size(); ++i)
    one(strf("output {}", i), found.outputs[i], expected.outputs[i], op.scale,
        op.allowed ? [&, i](size_t element) { return op.allowed(i, element); }
                   : std::function<double(size_t)>());
  for (const size_t i : recurrent_states(op))
    one(strf("state {}", i), found.states[i], expected.states[i], op.state_scale, nullptr);
}

std::vector<int64_t> uneven_pieces(int64_t tokens, Random& random) {
  std::vector<int64_t> pieces;
  for (int64_t left = tokens; left > 0;) {
    const int64_t piece =
        std::min(left, random.chance(0.3) ? 1 : random.pick(1, std::max<int64_t>(1, tokens / 2)));
    pieces.push_back(piece);
    left -= piece;
  }
  return pieces;
}

std::string text(const std::vector<int64_t>& pieces) {
  return pieces.size() > 8 ? strf("{} pieces", pieces.size()) : "pieces " + graph::shape_text(pieces);
}

}  // namespace

OpRun run_op(const OpCase& op, const Backend& backend, int threads, const std::vector<int64_t>& pieces) {
  auto result = run(op, backend, threads, pieces);
  REQUIRE_MESSAGE(result.has_value(), (result ? std::string() : result.error().message));
  return std::move(*result);
}

std::vector<const Backend*> all_backends() {
  std::vector<const Backend*> backends = host_backends();
  REQUIRE_FALSE(backends.empty());  // the portable target is in every build
  backends.insert(backends.begin(), &reference_backend());
  return backends;
}

namespace {

// Those that keep states as the case asks; the others are said.
std::vector<const Backend*> devices_for(const OpCase& op) {
  const graph::OpKind kind = graph::op_kind(op.file->model().methods[0]->nodes[0]->args.type);
  std::vector<const Backend*> able;
  for (const Backend* backend : device_backends()) {
    REQUIRE(backend->supports(kind));  // cmake/LinnetVulkan.cmake asks for a shader of each op
    if (backend->keeps_states_in(op.options.state_dtype))
      able.push_back(backend);
    else
      skipped(strf("{} keeps no states in {}", backend->name(), dtype_name(op.options.state_dtype)));
  }
  return able;
}

// A software device compiles and runs slowly: the first seeds, in one call and in pieces.
constexpr int kDeviceSeeds = 5;

void check_on_devices(const OpCase& op, const std::string& where,
                      const std::vector<std::vector<int64_t>>& cuts, const OpRun& truth) {
  for (const Backend* backend : devices_for(op)) {
    const std::string label(backend->name()), name = where + label;
    compare_runs(op, name + " against the reference", label, run_op(op, *backend), truth, false);
    if (!cuts.empty())
      compare_runs(op, name + " in " + text(cuts[0]) + " against the reference", label,
                   run_op(op, *backend, 1, cuts[0]), truth, false);
  }
  check_device_messages();
}

}  // namespace

std::shared_ptr<const OpCase> make_op(const BuildOp& build, uint64_t seed, int64_t tokens) {
  Random random(seed);
  OpBuilder builder(random, tokens);
  build(builder, random);
  return builder.finish();
}

std::string creation_error(const OpCase& op, const Backend& backend) {
  const auto engine = create_engine(op, backend, 1, op.tokens);
  return engine ? std::string() : engine.error().message;
}

void check_op_equals(const OpCase& op, const std::vector<std::vector<float>>& expected, double tolerance,
                     Truth truth) {
  if (truth == Truth::kFinite)
    for (const std::vector<float>& values : expected) check_truth("the expected values", values);
  std::vector<const Backend*> backends = all_backends();
  for (const Backend* device : devices_for(op)) backends.push_back(device);
  for (const Backend* backend : backends) {
    const OpRun found = run_op(op, *backend);
    REQUIRE(found.outputs.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const std::string label = strf("{}, output {}", backend->name(), i);
      compare({label, label, [&](size_t) { return tolerance; }, truth}, found.outputs[i], expected[i]);
    }
  }
}

void check_op_golden(const OpCase& op, const std::vector<std::vector<float>>& outputs,
                     const std::vector<std::vector<float>>& states, double tolerance,
                     const std::string& what) {
  std::vector<std::vector<int64_t>> cuts = {{}};
  if (op.by_token() && op.tokens > 1) cuts.emplace_back(static_cast<size_t>(op.tokens), 1);
  std::vector<const Backend*> backends = all_backends();
  for (const Backend* device : devices_for(op)) backends.push_back(device);
  for (const Backend* backend : backends)
    for (const auto& pieces : cuts) {
      const OpRun run = run_op(op, *backend, 1, pieces);
      const auto same = [&](const std::string& name, const auto& found, const auto& expected) {
        REQUIRE(found.size() == expected.size());
        for (size_t i = 0; i < expected.size(); ++i) {
          if (expected[i].empty()) continue;
          const std::string label = strf("{} {}, {} {}", what, backend->name(), name, i);
          check_truth(label, expected[i]);
          compare({label + " in " + text(pieces), label, [&](size_t) { return tolerance; }}, found[i],
                  expected[i]);
        }
      };
      same("output", run.outputs, outputs);
      same("state", run.states, states);
    }
}

void check_finite(const OpCase& op) {
  for (const Backend* backend : all_backends()) {
    const OpRun run = run_op(op, *backend);
    const auto one = [&](const char* what, size_t i, const std::vector<float>& values) {
      REQUIRE_MESSAGE(!values.empty(), backend->name(), ": ", what, " ", i, " is empty");
      REQUIRE_MESSAGE(std::isfinite(largest_magnitude(values)), backend->name(), ": ", what, " ", i,
                      " is not finite");
    };
    for (size_t i = 0; i < run.outputs.size(); ++i) one("output", i, run.outputs[i]);
    for (size_t i = 0; i < run.states.size(); ++i) one("state", i, run.states[i]);
  }
}

void check_op(int seeds, const BuildOp& build, const CheckOptions& options) {
  for (int i = 0; i < repetitions(seeds); ++i) {
    const uint64_t seed = options.first_seed + static_cast<uint64_t>(i);
    Random random(seed);
    // The first seeds are the lengths at which kernels change their ways.
    const int64_t tokens = i == 0   ? 1
                           : i == 1 ? std::min<int64_t>(2, options.most_tokens)
                                    : random.pick(1, options.most_tokens);
    OpBuilder builder(random, tokens);
    build(builder, random);
    const std::shared_ptr<const OpCase> op = builder.finish();
    check_traits(op->file->model(), op->symbols);
    std::vector<std::vector<int64_t>> cuts;
    if (op->by_token() && op->tokens > 1) {
      cuts.push_back(uneven_pieces(op->tokens, random));
      cuts.emplace_back(static_cast<size_t>(op->tokens), 1);
    }
    const OpRun truth = run_op(*op, reference_backend());
    const std::string where = strf("seed {}, {} tokens, ", static_cast<int64_t>(seed), op->tokens);
    check_reference(*op, where, truth);
    for (const auto& pieces : cuts)
      if (vulkan_wish() != "only")
        compare_runs(*op, where + "reference in " + text(pieces), "reference in pieces",
                     run_op(*op, reference_backend(), 1, pieces), truth, false);
    if (i < kDeviceSeeds) check_on_devices(*op, where, cuts, truth);
    if (vulkan_wish() == "only") {
      if (i + 1 >= kDeviceSeeds) break;
      continue;
    }
    for (const Backend* const form : host_backends()) {
      const Backend& backend = *form;
      const std::string label(backend.name()), name = where + label;
      const OpRun whole = run_op(*op, backend);
      compare_runs(*op, name + " against the reference", label, whole, truth, false);
      cuts.insert(cuts.begin(), std::vector<int64_t>());
      for (const auto& pieces : cuts) {
        const OpRun one = pieces.empty() ? whole : run_op(*op, backend, 1, pieces);
        if (!pieces.empty()) {
          compare_runs(*op, name + " in " + text(pieces) + " against the reference", label, one, truth,
                       false);
          if (op->exact_pieces)
            compare_runs(*op, name + " in " + text(pieces) + " against one call", label, one, whole, true);
        }
        for (const int threads : {2, 3}) {
          // More threads than processors wait for each other by the millisecond: once is enough.
          if (threads == 3 && (i > 0 || !pieces.empty())) continue;
          compare_runs(*op, strf("{} in {} on {} threads against one", name, text(pieces), threads), label,
                       run_op(*op, backend, threads, pieces), one, true);
        }
      }
      cuts.erase(cuts.begin());
    }
  }
}

}  // namespace linnet::testing
