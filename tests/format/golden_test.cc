// Files of every released version stay readable: golden/format_v<N>.lnt was written by the release that
// introduced version N.
#include <doctest/doctest.h>

#include "format/head.h"
#include "runtime/core/strings.h"
#include "tests/format/sample.h"

using namespace linnet;
using namespace linnet::format;
using namespace linnet::format::testing;

TEST_CASE("the golden file of version 1 reads as it was written") {
  const auto file = ModelFile::open(LINNET_GOLDEN "/format_v1.lnt");
  REQUIRE_MESSAGE(file, (file ? "" : file.error().message));
  CHECK(file->verify_checksums());
  const fb::ModelT& model = file->model();
  CHECK(model.metadata[0]->key == "general.name");
  CHECK(model.metadata[0]->value == "sample");
  CHECK(model.symbols[0]->name == "tokens");
  CHECK(model.states[0]->name == "layers.0.keys");
  REQUIRE(model.weights.size() == 3);
  CHECK(model.weights[0]->name == "embedding");
  CHECK(model.weights[0]->dtype == fb::DType::Q8);
  CHECK(model.weights[0]->layout == fb::Layout::Panel);
  CHECK(model.weights[0]->shape == std::vector<int64_t>{20, 32});
  CHECK(model.weights[2]->dtype == fb::DType::F16);
  // The first panel: scale of row 0, then its codes, whose extreme is 127.
  const auto matrix = file->weight_bytes(0);
  REQUIRE(matrix.size() == 2 * 544);
  CHECK(static_cast<int>(matrix[0]) == 0x00);
  CHECK(static_cast<int>(matrix[1]) == 0x3C);
  CHECK(static_cast<int8_t>(matrix[32]) == -127);
  CHECK(static_cast<int8_t>(matrix[33]) == -116);
  CHECK(static_cast<int8_t>(matrix[36]) == -91);  // row 1, input 0: -90 at a scale of 126/127
  const fb::MethodT& method = *model.methods[0];
  CHECK(method.name == "forward");
  REQUIRE(method.nodes.size() == 3);
  CHECK(method.nodes[0]->args.type == fb::OpArgs::Embedding);
  REQUIRE(method.nodes[1]->args.type == fb::OpArgs::Norm);
  CHECK(method.nodes[1]->args.AsNorm()->epsilon == 1e-5f);
  CHECK(method.nodes[2]->args.type == fb::OpArgs::Logits);
  CHECK(method.nodes[2]->args.AsLogits()->scale == 1);
  CHECK(method.values[1]->shape[0].symbol() == 0);
  CHECK(method.values[1]->shape[1].add() == 32);
  REQUIRE(model.tokenizer);
  CHECK(model.tokenizer->pieces[2] == "ab");
  CHECK(model.tokenizer->merges == std::vector<uint32_t>{0, 1});
  CHECK(model.tokenizer->added_tokens[0]->text == "<|end|>");
  CHECK(model.tokenizer->stop_ids == std::vector<int32_t>{7, 3});
  CHECK(model.chat_template == "{{ messages[0].content }}");
  REQUIRE(model.sampler);
  CHECK(model.sampler->top_p == 1);
}

TEST_CASE("the factors of products: by the field, and by the method's name in files from before it") {
  const auto file = ModelFile::open(LINNET_GOLDEN "/format_v1.lnt");
  REQUIRE(file);
  CHECK(file->model().methods[0]->products == fb::Products::ByName);
  CHECK(half_products(*file->model().methods[0]));
  fb::MethodT method;
  method.name = "decode_image";
  CHECK_FALSE(half_products(method));
  method.products = fb::Products::Half;
  CHECK(half_products(method));
  method.name = "denoise";
  CHECK(half_products(method));
  method.products = fb::Products::Single;
  CHECK_FALSE(half_products(method));
}

// Run by hand when a version is released (or the corpus is lost):
// linnet_format_tests --no-skip --test-case="write the files that tests read"
TEST_CASE("write the files that tests read" * doctest::skip()) {
  const std::filesystem::path golden = LINNET_GOLDEN;
  REQUIRE(write_sample(golden / strf("format_v{}.lnt", kFormatVersion)));
  const auto corpus = golden.parent_path() / "fuzz" / "corpus" / "lnt";
  std::filesystem::create_directories(corpus);
  const auto bytes = sample_bytes();
  write_file(corpus / "sample.lnt", bytes);
  const auto header = decode_header(bytes);
  REQUIRE(header);
  write_file(corpus / "sample_head", std::span(bytes).subspan(static_cast<size_t>(header->head_offset)));
  auto writer = ModelWriter::create(corpus / "no_weights.lnt");
  REQUIRE(writer);
  auto model = sample_structure();
  for (auto& node : model.methods[0]->nodes) node->weights.assign(node->weights.size(), -1);
  REQUIRE(writer->finish(std::move(model)));
}
