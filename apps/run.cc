// linnet run: any method of a model on given tensors, so that anyone can compare Linnet with anything.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "apps/bounds_options.h"
#include "apps/common.h"
#include "apps/tensor_io.h"
#include "format/names.h"
#include "format/output_file.h"
#include "format/verify.h"
#include "linnet/model.h"
#include "runtime/core/strings.h"

namespace linnet::app {
namespace {

struct RunArguments {
  std::string path, method = names::kForward, inputs, outputs;
  std::vector<std::string> symbols;
  BoundsOptions bounds;
  bool cache_given = false, attention_given = false, force = false;
};

using SymbolValues = std::vector<std::optional<int64_t>>;

// The symbol's value that gives dimension `n`, if there is one.
std::optional<int64_t> solve(const fb::Dim& dim, int64_t n) {
  if (dim.mul() <= 0) return std::nullopt;
  const int64_t value = (n - dim.add()) * dim.div() / dim.mul();
  if (value < 1 || value * dim.mul() / dim.div() + dim.add() != n) return std::nullopt;
  return value;
}

// Checks an input against its value's shape and learns symbols from it. Leading dimensions of 1 (a batch) are
// dropped.
Result<void> match(const fb::ModelT& model, const fb::ValueT& value, Tensor& tensor, SymbolValues& symbols) {
  const auto mismatch = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidArgument,
                strf("input '{}': expected {} {}, found {} {}{}", value.name,
                     dtype_name(format::to_dtype(value.dtype)), graph::shape_text(model, value.shape),
                     dtype_name(tensor.dtype), graph::shape_text(tensor.shape), why));
  };
  while (tensor.shape.size() > value.shape.size() && tensor.shape.front() == 1)
    tensor.shape.erase(tensor.shape.begin());
  if (tensor.dtype == DType::kI32 && value.dtype == fb::DType::F32) {
    // Masks and timesteps are whole numbers in some files.
    for (size_t i = 0; i < tensor.bytes.size(); i += sizeof(float)) {
      int32_t whole;
      std::memcpy(&whole, &tensor.bytes[i], sizeof(whole));
      const auto number = static_cast<float>(whole);
      std::memcpy(&tensor.bytes[i], &number, sizeof(number));
    }
    tensor.dtype = DType::kF32;
  }
  if (tensor.dtype != format::to_dtype(value.dtype) || tensor.shape.size() != value.shape.size())
    return mismatch("");
  for (size_t i = 0; i < value.shape.size(); ++i) {
    const fb::Dim& dim = value.shape[i];
    const int64_t n = tensor.shape[i];
    if (n < 1) return mismatch(": it is empty");
    if (graph::is_fixed(dim)) {
      if (dim.add() != n) return mismatch("");
      continue;
    }
    auto& symbol = symbols[static_cast<size_t>(dim.symbol())];
    const std::string& name = model.symbols[static_cast<size_t>(dim.symbol())]->name;
    if (symbol && graph::dim_value(dim, std::vector<int64_t>(model.symbols.size(), *symbol)) != n)
      return mismatch(strf(", but '{}' is {} already", name, *symbol));
    if (!symbol) symbol = solve(dim, n);
    if (!symbol) return mismatch(strf(": no value of '{}' gives {}", name, n));
  }
  return {};
}

bool leading_symbol_is(const fb::ValueT& value, int symbol) {
  return symbol >= 0 && !value.shape.empty() && value.shape[0].symbol() == symbol &&
         value.shape[0].mul() == 1 && value.shape[0].div() == 1 && value.shape[0].add() == 0;
}

size_t row_bytes(const Tensor& tensor) { return tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]); }

// Pictures come in batches: a leading dimension that an input has beyond its value's, or several numbers
// where the value takes one. All such inputs must agree; the others are shared. Returns the inputs of each
// item.
Result<std::vector<Tensors>> split_batch(const fb::MethodT& method, const Tensors& inputs) {
  int64_t batch = 1;
  std::string first;
  const auto extra = [&](const fb::ValueT& value, const Tensor& tensor) -> int64_t {
    if (tensor.bytes.empty()) return 1;  // refused with its name later
    const bool leads = tensor.shape.size() == value.shape.size() + 1;
    const bool numbers = value.shape.size() == 1 && tensor.shape.size() == 1 &&
                         graph::is_fixed(value.shape[0]) && value.shape[0].add() == 1;
    return leads || numbers ? tensor.shape[0] : 1;
  };
  for (const int input : method.inputs) {
    const fb::ValueT& value = *method.values[static_cast<size_t>(input)];
    const auto found = inputs.find(value.name);
    if (found == inputs.end() || extra(value, found->second) <= 1) continue;
    const int64_t n = extra(value, found->second);
    if (batch > 1 && n != batch)
      return fail(ErrorCode::kInvalidArgument,
                  strf("input '{}' has a batch of {}, '{}' one of {}", value.name, n, first, batch));
    batch = n;
    first = value.name;
  }
  std::vector<Tensors> items(static_cast<size_t>(batch), inputs);
  if (batch == 1) return items;
  for (const int input : method.inputs) {
    const fb::ValueT& value = *method.values[static_cast<size_t>(input)];
    const auto found = inputs.find(value.name);
    if (found == inputs.end() || extra(value, found->second) != batch) continue;
    const size_t bytes = found->second.bytes.size() / static_cast<size_t>(batch);
    for (size_t i = 0; i < items.size(); ++i) {
      Tensor& item = items[i][value.name];
      item.shape[0] = 1;
      const auto begin = found->second.bytes.begin() + static_cast<std::ptrdiff_t>(i * bytes);
      item.bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(bytes));
    }
  }
  return items;
}

// One fresh run of one method. A method that carries states along `tokens` is fed in chunks, and its outputs
// are joined; any other runs at once.
class MethodRun {
 public:
  MethodRun(std::shared_ptr<const format::ModelFile> file, size_t method, Tensors inputs)
      : file_(std::move(file)), model_(file_->model()), method_(method), inputs_(std::move(inputs)) {
    tokens_symbol_ = graph::find_symbol(model_, names::kTokens);
    logit_tokens_symbol_ = graph::find_symbol(model_, names::kLogitTokens);
  }

  Result<Tensors> run(const RunArguments& options, const Backend& backend, ProgressBar& bar) {
    LINNET_TRY(bind(options));
    BoundsOptions bounds = options.bounds;
    if (bounds.attention == "full" && !bounds.context_given) bounds.context = total_;
    if (bounds.attention == "full" && bounds.context < total_)
      return fail(
          ErrorCode::kInvalidArgument,
          strf("{} tokens were given, --context is {}: raise it, or leave it out", total_, bounds.context));
    bounds.chunk = chunk_;
    std::vector<std::pair<std::string, int64_t>> symbols;
    for (size_t i = 0; i < values_.size(); ++i)
      if (const std::string& name = model_.symbols[i]->name;
          name != names::kContext && name != names::kTokens)
        symbols.emplace_back(name, static_cast<int>(i) == logit_tokens_symbol_ ? chunk_ : values_[i]);
    LINNET_ASSIGN(const auto engine, Engine::create(file_, backend, engine_options(bounds, symbols)));
    values_.resize(model_.symbols.size());
    if (const int context = graph::find_symbol(model_, names::kContext); context >= 0)
      values_[static_cast<size_t>(context)] = engine->bounds().symbols[static_cast<size_t>(context)];
    for (int64_t done = 0; done < total_; done += chunk_) {
      LINNET_TRY(step(*engine, done, std::min(chunk_, total_ - done)));
      bar.show("running", static_cast<uint64_t>(done), static_cast<uint64_t>(total_));
      if (interrupted())
        return fail(ErrorCode::kCancelled, strf("stopped after {} of {} tokens", done, total_));
    }
    return std::move(outputs_);
  }

 private:
  const fb::MethodT& method() const { return *model_.methods[method_]; }
  const fb::ValueT& value(int index) const { return *method().values[static_cast<size_t>(index)]; }

  // Symbol values from the inputs' shapes and from --symbol.
  Result<void> bind(const RunArguments& options) {
    SymbolValues symbols(model_.symbols.size());
    LINNET_ASSIGN(const auto given, parse_symbols(options.symbols));
    for (const auto& [name, number] : given) {
      const int symbol = graph::find_symbol(model_, name);
      if (symbol < 0)
        return fail(ErrorCode::kInvalidArgument,
                    strf("--symbol {}: the model has no symbol of this name", name));
      symbols[static_cast<size_t>(symbol)] = number;
    }
    std::string expected;
    for (const int input : method().inputs)
      expected += strf("{}'{}'", expected.empty() ? "" : ", ", value(input).name);
    for (const int input : method().inputs) {
      const auto found = inputs_.find(value(input).name);
      if (found == inputs_.end())
        return fail(ErrorCode::kInvalidArgument,
                    strf("'{}' has no tensor '{}': method '{}' takes {}", options.inputs, value(input).name,
                         method().name, expected));
      LINNET_TRY(match(model_, value(input), found->second, symbols));
    }
    for (const auto& [name, tensor] : inputs_)
      if (std::ranges::none_of(method().inputs, [&](int input) { return value(input).name == name; }))
        return fail(ErrorCode::kInvalidArgument,
                    strf("'{}' has a tensor '{}' that method '{}' does not take: it takes {}", options.inputs,
                         name, method().name, expected));
    const auto tokens = tokens_symbol_ < 0 ? std::nullopt : symbols[static_cast<size_t>(tokens_symbol_)];
    total_ = tokens.value_or(1);
    const bool stateful =
        std::ranges::any_of(method().nodes, [](const auto& node) { return !node->states.empty(); });
    chunk_ = stateful && tokens ? std::min(options.bounds.chunk, total_) : total_;
    values_.assign(symbols.size(), 1);
    for (size_t i = 0; i < symbols.size(); ++i) {
      const std::string& name = model_.symbols[i]->name;
      if (symbols[i]) {
        values_[i] = *symbols[i];
      } else if (name != names::kLogitTokens && name != names::kContext && uses(static_cast<int>(i))) {
        return fail(
            ErrorCode::kInvalidArgument,
            strf("no input of method '{}' tells '{}': add --symbol {}=VALUE", method().name, name, name));
      }
    }
    return {};
  }

  bool uses(int symbol) const {
    return std::ranges::any_of(method().values, [&](const auto& v) {
      return std::ranges::any_of(v->shape, [&](const fb::Dim& d) { return d.symbol() == symbol; });
    });
  }

  Result<void> step(Engine& engine, int64_t done, int64_t n) {
    if (tokens_symbol_ >= 0) values_[static_cast<size_t>(tokens_symbol_)] = n;
    if (logit_tokens_symbol_ >= 0) values_[static_cast<size_t>(logit_tokens_symbol_)] = n;
    for (const int input : method().inputs) {
      const Tensor& tensor = inputs_.at(value(input).name);
      std::span<const std::byte> bytes = tensor.bytes;
      if (leading_symbol_is(value(input), tokens_symbol_))
        bytes = bytes.subspan(static_cast<size_t>(done) * row_bytes(tensor),
                              static_cast<size_t>(n) * row_bytes(tensor));
      LINNET_TRY(engine.write_value(method_, static_cast<size_t>(input), bytes));
    }
    const int64_t start = engine.position();
    LINNET_TRY(engine.run(method_, values_, n));
    for (const int output : method().outputs) LINNET_TRY(collect(engine, output, start));
    return {};
  }

  Result<void> collect(Engine& engine, int output, int64_t start) {
    const fb::ValueT& v = value(output);
    std::vector<int64_t> shape;
    size_t bytes = element_bytes(format::to_dtype(v.dtype));
    for (const fb::Dim& dim : v.shape) {
      shape.push_back(graph::dim_value(dim, values_));
      bytes *= static_cast<size_t>(shape.back());
    }
    Tensor& out = outputs_[v.name];
    const bool joins = leading_symbol_is(v, tokens_symbol_) || leading_symbol_is(v, logit_tokens_symbol_);
    if (out.shape.empty() || !joins) {
      out = {format::to_dtype(v.dtype), shape, {}};
    } else {
      out.shape[0] += shape[0];
    }
    const size_t before = out.bytes.size();
    out.bytes.resize(before + bytes);
    LINNET_TRY(engine.read_value(method_, static_cast<size_t>(output), std::span(out.bytes).subspan(before)));
    if (out.dtype == DType::kF32) {
      const std::span<const float> numbers(reinterpret_cast<const float*>(out.bytes.data() + before),
                                           bytes / sizeof(float));
      if (!std::ranges::all_of(numbers, [](float x) { return std::isfinite(x); }))
        return std::unexpected(engine.diagnose_non_finite(method_, values_, start));
    }
    return {};
  }

  std::shared_ptr<const format::ModelFile> file_;
  const fb::ModelT& model_;
  size_t method_;
  Tensors inputs_, outputs_;
  int tokens_symbol_ = -1, logit_tokens_symbol_ = -1;
  std::vector<int64_t> values_;
  int64_t total_ = 1, chunk_ = 1;
};

int run(RunArguments options) {
  // Exactness is what this command is for: full attention and f32 caches unless the user says otherwise.
  if (!options.attention_given && !options.bounds.window_given) options.bounds.attention = "full";
  if (!options.cache_given) options.bounds.cache = "f32";
  if (auto checked = check_bounds(options.bounds); !checked) return complain(checked.error());
  const auto backend = find_backend(options.bounds);
  if (!backend) return complain(backend.error());
  const auto model = Model::open(options.path);
  if (!model) return complain_input(model.error());
  const fb::ModelT& m = (*model)->file().model();
  const int method = graph::find_method(m, options.method);
  if (method < 0) {
    std::string names;
    for (const auto& known : m.methods) names += strf("{}'{}'", names.empty() ? "" : ", ", known->name);
    return complain({ErrorCode::kNotFound,
                     strf("'{}' has no method '{}': it has {}", options.path, options.method, names)});
  }
  if (auto checked = format::check_output(options.outputs, {.replace = options.force, .stream = true});
      !checked)
    return complain_input(checked.error());
  auto inputs = read_tensors(options.inputs);
  if (!inputs) return complain_input(inputs.error());
  catch_interrupts();
  ProgressBar bar;
  const auto run_all = [&]() -> Result<Tensors> {
    LINNET_ASSIGN(std::vector<Tensors> items, split_batch(*m.methods[static_cast<size_t>(method)], *inputs));
    Tensors all;
    for (Tensors& item : items) {
      LINNET_ASSIGN(Tensors outputs,
                    MethodRun((*model)->shared_file(), static_cast<size_t>(method), std::move(item))
                        .run(options, **backend, bar));
      if (items.size() == 1) return outputs;
      for (auto& [name, tensor] : outputs) {
        Tensor& out = all[name];
        if (out.shape.empty()) {
          out = {tensor.dtype, tensor.shape, {}};
          out.shape.insert(out.shape.begin(), static_cast<int64_t>(items.size()));
        }
        out.bytes.insert(out.bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
      }
    }
    return all;
  };
  auto outputs = run_all();
  bar.clear();
  if (!outputs) return complain(outputs.error());
  if (auto written = write_tensors(options.outputs, *outputs, options.force); !written)
    return complain(written.error());
  return kOk;
}

}  // namespace

void add_run(CommandLine& line) {
  const auto options = std::make_shared<RunArguments>();
  Command command = line.command("run", "Run a method of a model on tensors from a file, state fresh");
  command.option("MODEL", options->path, "a Linnet file (.lnt)").required();
  command.option("--method", options->method, "as `linnet inspect` lists them").shows_default();
  command.option("--inputs", options->inputs, "safetensors file with a tensor for each input").required();
  command.option("--outputs", options->outputs, "safetensors file to write").required();
  command.flag("--force", options->force, "replace the outputs' file if it exists");
  command.option("--symbol", options->symbols,
                 "value of a symbol that no input tells, as NAME=VALUE; may be repeated");
  add_bounds_options(command, options->bounds);
  command.does([options, command] {
    options->attention_given = command.given("--attention");
    options->cache_given = command.given("--cache");
    return run(*options);
  });
  command.footer(
      "Without --attention and --cache: exact, with full attention over all tokens and f32 keys and values.");
}

}  // namespace linnet::app
