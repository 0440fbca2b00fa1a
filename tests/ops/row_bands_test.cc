// Nodes that run in bands of rows give the bits of whole images, in less memory.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "format/writer.h"
#include "runtime/graph/op_traits.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

template <typename T>
T must(Result<T> result) {
  REQUIRE_MESSAGE(result.has_value(), (result ? std::string() : result.error().message));
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// A small decoder with all that local nodes do: convolutions with strides and upsampling, residuals,
// shortcuts, gates, modulation, a value that is read both inside and outside.
class Decoder {
 public:
  explicit Decoder(DType dtype) : dtype_(dtype), writer_(must(format::ModelWriter::create(path_))) {
    for (const char* name : {"height", "width"}) {
      model_.symbols.push_back(std::make_unique<fb::SymbolT>());
      model_.symbols.back()->name = name;
    }
    method_->name = "forward";
    const int x = value(1, 32), modulation = value(0, 96);
    method_->inputs = {x, modulation};
    fb::Convolution2dT conv;
    conv.kernel_height = conv.kernel_width = 3;
    conv.pad_top = conv.pad_left = 1;
    conv.activation = fb::Activation::Silu;
    const int a = node(conv, {x}, {matrix(32, 9 * 32), vector({32})}, 1, 32);
    conv.activation = fb::Activation::None;
    const int b = node(conv, {a}, {matrix(32, 9 * 32)}, 1, 32);
    fb::NormT norm;
    norm.epsilon = 1e-5f;
    norm.shift_part = 2;
    norm.scale_part = 0;
    const int block = node(norm, {b, -1, modulation, x}, {vector({32})}, 1, 32);
    conv.upsample = 2;
    const int up = node(conv, {block}, {matrix(16, 9 * 32)}, 2, 16);
    fb::ResampleT shuffle;
    shuffle.kind = fb::ResampleKind::Shuffle;
    shuffle.factor = 2;
    const int joined = node(shuffle, {block, up}, {}, 2, 16);
    fb::LinearT linear;
    linear.activation = fb::Activation::Silu;
    const int wide = node(linear, {joined}, {matrix(64, 16), vector({64})}, 2, 64);
    fb::Convolution2dT depthwise;
    depthwise.kernel_height = depthwise.kernel_width = 5;
    depthwise.pad_top = depthwise.pad_left = 2;
    depthwise.groups = 64;
    depthwise.gated = true;
    depthwise.activation = fb::Activation::Silu;
    const int deep = node(depthwise, {wide}, {vector({5, 5, 64}), vector({64})}, 2, 32);
    fb::ResampleT unshuffle;
    unshuffle.kind = fb::ResampleKind::Unshuffle;
    unshuffle.factor = 2;
    const int down = node(unshuffle, {deep}, {}, 1, 64);
    fb::ResampleT nearest;
    nearest.factor = 3;
    const int tall = node(nearest, {down}, {}, 3, 64);
    fb::Convolution2dT strided;
    strided.kernel_height = strided.kernel_width = 4;
    strided.stride = 3;
    strided.pad_top = 1;
    const int small = node(strided, {tall}, {matrix(24, 16 * 64)}, 1, 24);
    fb::PointwiseT scale;
    scale.kind = fb::PointwiseKind::Scale;
    scale.alpha = 0.5f;
    const int last = node(scale, {small}, {}, 1, 24);
    method_->outputs = {joined, last};
    model_.methods.push_back(std::move(method_));
    must(writer_.finish(std::move(model_)));
    file = std::make_shared<const format::ModelFile>(must(format::ModelFile::open(path_)));
    std::filesystem::remove(path_);
  }
  std::shared_ptr<const format::ModelFile> file;

 private:
  // times 0: a row of its own.
  int value(int times, int64_t channels) {
    auto v = std::make_unique<fb::ValueT>();
    v->name = "v" + std::to_string(method_->values.size());
    if (times > 0)
      v->shape = {fb::Dim(0, times, 1, 0), fb::Dim(1, times, 1, 0), graph::fixed_dim(channels)};
    else
      v->shape = {graph::fixed_dim(1), graph::fixed_dim(channels)};
    method_->values.push_back(std::move(v));
    return static_cast<int>(method_->values.size()) - 1;
  }
  template <typename Args>
  int node(const Args& args, std::vector<int> inputs, std::vector<int> weights, int times, int64_t channels) {
    auto n = std::make_unique<fb::NodeT>();
    n->name = "n" + std::to_string(method_->nodes.size());
    n->args.Set(Args(args));
    n->inputs = std::move(inputs);
    n->weights = std::move(weights);
    if constexpr (std::is_same_v<Args, fb::LinearT>) n->weights.resize(2, -1);
    const int out = value(times, channels);
    n->outputs = {out};
    method_->nodes.push_back(std::move(n));
    return out;
  }
  std::vector<float> fill(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = 0.2f * random_.normal();
    return values;
  }
  int matrix(int64_t n, int64_t k) {
    const std::vector<float> values = fill(n * k);
    must(writer_.pack_and_write_matrix("w" + std::to_string(weights_), dtype_, std::vector<int64_t>{n, k},
                                       [&](int64_t first, int64_t rows, float* to) -> Result<void> {
                                         std::copy_n(&values[static_cast<size_t>(first * k)],
                                                     static_cast<size_t>(rows * k), to);
                                         return {};
                                       }));
    return weights_++;
  }
  int vector(std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    const std::vector<float> values = fill(count);
    must(writer_.begin_weight("w" + std::to_string(weights_), DType::kF32, fb::Layout::RowMajor, shape));
    must(writer_.write(std::as_bytes(std::span(values))));
    must(writer_.end_weight());
    return weights_++;
  }

  DType dtype_;
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("linnet_row_bands_" + std::to_string(getpid()) + ".lnt");
  format::ModelWriter writer_;
  fb::ModelT model_;
  std::unique_ptr<fb::MethodT> method_ = std::make_unique<fb::MethodT>();
  Random random_{7};
  int weights_ = 0;
};

struct Found {
  std::vector<std::vector<float>> outputs;
  size_t work_bytes = 0, segments = 0;
};

Found run(const Decoder& decoder, const Backend& backend, size_t band_bytes, int threads, int64_t height,
          int64_t width) {
  EngineOptions options;
  options.symbols = {{"height", 12}, {"width", 10}};
  options.band_bytes = band_bytes;
  options.threads = threads;
  const auto engine = must(Engine::create(decoder.file, backend, options));
  Random random(3);
  const auto write = [&](size_t value, int64_t count) {
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x) v = random.normal();
    must(engine->write_value(0, value, std::as_bytes(std::span(x))));
  };
  write(0, height * width * 32);
  write(1, 96);
  const std::vector<int64_t> symbols = {height, width};
  must(engine->run(0, symbols, 0));
  Found found;
  found.work_bytes = engine->plan().work_bytes;
  found.segments = engine->plan().methods[0].rows.segments.size();
  const int64_t sizes[] = {4 * height * width * 16, height * width * 24};
  for (size_t i = 0; i < 2; ++i) {
    std::vector<float> y(static_cast<size_t>(sizes[i]));
    const auto value = static_cast<size_t>(engine->model().methods[0]->outputs[i]);
    must(engine->read_value(0, value, std::as_writable_bytes(std::span(y))));
    found.outputs.push_back(std::move(y));
  }
  return found;
}

}  // namespace

TEST_CASE("row bands: the bits of whole images, for every band, size and thread count") {
  for (const DType dtype : {DType::kF32, DType::kQ8}) {
    const Decoder decoder(dtype);
    for (const Backend* backend : {all_backends().front(), all_backends().back()}) {
      for (const auto& [height, width] : {std::pair<int64_t, int64_t>{12, 10}, {1, 1}, {7, 3}, {11, 10}}) {
        const Found whole = run(decoder, *backend, SIZE_MAX, 1, height, width);
        CHECK(whole.segments == 0);
        for (const size_t band_bytes : {size_t{1}, size_t{40000}, size_t{300000}}) {
          for (const int threads : {1, 2}) {
            const Found bands = run(decoder, *backend, band_bytes, threads, height, width);
            CHECK(bands.segments == 1);
            for (size_t i = 0; i < 2; ++i) CHECK(bands.outputs[i] == whole.outputs[i]);
          }
        }
      }
    }
  }
}

TEST_CASE("row bands: every op that runs in them is in the decoder above") {
  const Decoder decoder(DType::kF32);
  std::vector<bool> there(graph::kOpCount, false);
  for (const auto& node : decoder.file->model().methods[0]->nodes)
    there[static_cast<size_t>(graph::op_kind(node->args.type))] = true;
  for (size_t i = 0; i < graph::kOpCount; ++i) {
    const graph::OpInfo& op = graph::op_info(static_cast<graph::OpKind>(i));
    const std::string name(op.name);
    CAPTURE(name);
    CHECK(there[i] == (op.traits.rows != nullptr));
  }
}

TEST_CASE("row bands: values between nodes take a few rows") {
  const Decoder decoder(DType::kF32);
  const Backend& reference = *all_backends().front();
  const size_t whole = run(decoder, reference, SIZE_MAX, 1, 12, 10).work_bytes;
  const size_t bands = run(decoder, reference, 1, 1, 12, 10).work_bytes;
  CHECK(bands < whole / 2);
}
