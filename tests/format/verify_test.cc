#include "format/verify.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "format/model_tables.h"
#include "format/panel.h"
#include "tests/format/sample.h"

using namespace linnet;
using namespace linnet::format;
using namespace linnet::format::testing;

namespace {

// The sample with its segments and weights, as a reader sees it.
fb::ModelT sample_model(uint64_t* head_offset = nullptr) {
  const auto bytes = sample_bytes();
  if (head_offset) *head_offset = decode_header(bytes)->head_offset;
  const auto file = ModelFile::from_memory(bytes);
  return fb::ModelT(file->model());
}

using Change = std::function<void(fb::ModelT&)>;

// The message for the sample after `change`; "" if it passes.
std::string verify_error(const Change& change) {
  uint64_t head_offset = 0;
  fb::ModelT model = sample_model(&head_offset);
  change(model);
  const auto result = verify_model(model, head_offset);
  return result ? "" : result.error().message;
}

// The message of the head's own checks after `change`.
std::string decode_error(const Change& change) {
  fb::ModelT model = sample_model();
  change(model);
  const auto head = encode_head(model);
  if (!head) return "encode: " + head.error().message;
  const auto result = decode_head(*head);
  return result ? "" : result.error().message;
}

fb::MethodT& method(fb::ModelT& m) { return *m.methods[0]; }
fb::NodeT& node(fb::ModelT& m, size_t i) { return *m.methods[0]->nodes[i]; }

struct Rule {
  const char* message;
  Change change;
};

void check_rules(const std::vector<Rule>& rules) {
  for (const Rule& rule : rules) {
    CAPTURE(rule.message);
    const std::string error = verify_error(rule.change);
    CAPTURE(error);
    CHECK(contains(error, rule.message));
  }
}

}  // namespace

TEST_CASE("the sample passes") {
  CHECK(verify_error([](fb::ModelT&) {}) == "");
  CHECK(decode_error([](fb::ModelT&) {}) == "");
  CHECK(verify_model(fb::ModelT(), kFileHeaderBytes));
}

TEST_CASE("the verifier refuses what breaks its rules: names") {
  check_rules({
      {"weight 1 has no name", [](auto& m) { m.weights[1]->name = ""; }},
      {"two weights have the name 'embedding'", [](auto& m) { m.weights[1]->name = "embedding"; }},
      {"control character", [](auto& m) { m.weights[1]->name = "a\x1B[2J"; }},
      {"more than 512", [](auto& m) { m.states[0]->name.assign(513, 'x'); }},
      {"state 1 is missing", [](auto& m) { m.states.push_back(nullptr); }},
      {"two states have the name",
       [](auto& m) { m.states.push_back(std::make_unique<fb::StateT>(*m.states[0])); }},
      {"two symbols have the name 'tokens'",
       [](auto& m) { m.symbols.push_back(named<fb::SymbolT>("tokens")); }},
      {"two methods have the name 'forward'",
       [](auto& m) { m.methods.push_back(named<fb::MethodT>("forward")); }},
      {"two values have the name 'hidden'", [](auto& m) { method(m).values[2]->name = "hidden"; }},
      {"method 1 is missing", [](auto& m) { m.methods.push_back(nullptr); }},
      {"node 3 is missing", [](auto& m) { method(m).nodes.push_back(nullptr); }},
      {"value 4 is missing", [](auto& m) { method(m).values.push_back(nullptr); }},
      {"node 0 has no name", [](auto& m) { node(m, 0).name = ""; }},
      {"metadata entry 0 has no name", [](auto& m) { m.metadata[0]->key = ""; }},
      {"metadata entry 1 is missing", [](auto& m) { m.metadata.push_back(nullptr); }},
      {"weight 3 is missing", [](auto& m) { m.weights.push_back(nullptr); }},
  });
}

TEST_CASE("the verifier refuses what breaks its rules: segments") {
  check_rules({
      {"segment 2 is missing", [](auto& m) { m.segments.push_back(nullptr); }},
      {"segment 0 starts at 16448, which is no multiple", [](auto& m) { m.segments[0]->offset += 64; }},
      {"segment 0 starts at 0, inside", [](auto& m) { m.segments[0]->offset = 0; }},
      {"segment 1 starts at 16384, inside", [](auto& m) { m.segments[1]->offset = kPageBytes; }},
      {"segment 1 is empty", [](auto& m) { m.segments[1]->bytes = 0; }},
      {"do not end before the head", [](auto& m) { m.segments[1]->bytes += 64; }},
      {"do not end before the head", [](auto& m) { m.segments[1]->bytes = ~uint64_t{0} - 100; }},
      {"do not end before the head", [](auto& m) { m.segments[1]->offset = ~uint64_t{0} - kPageBytes + 1; }},
      {"segment 1 starts at 32768, inside", [](auto& m) { m.segments[0]->bytes = kPageBytes - 1; }},
  });
}

TEST_CASE("the verifier refuses what breaks its rules: weights") {
  check_rules({
      {"weight 'embedding' has 2177 bytes", [](auto& m) { m.weights[0]->bytes += 1089; }},
      {"and its type and shape need", [](auto& m) { m.weights[0]->shape[0] = 15; }},
      {"is in segment 2, and there are 2", [](auto& m) { m.weights[0]->segment = 2; }},
      {"no multiple of 64", [](auto& m) { m.weights[0]->offset = 4; }},
      {"reaches beyond its segment", [](auto& m) { m.weights[1]->offset += 64; }},
      {"reaches beyond its segment", [](auto& m) { m.weights[1]->offset = ~uint64_t{0} - 63; }},
      {"weights 'embedding' and 'norm' overlap", [](auto& m) { m.weights[1]->offset -= 64; }},
      {"dimension 0 is 0", [](auto& m) { m.weights[1]->shape[0] = 0; }},
      {"dimension 0 is -32", [](auto& m) { m.weights[1]->shape[0] = -32; }},
      {"dimension 0 is 1099511627777", [](auto& m) { m.weights[1]->shape[0] = kMaxDim + 1; }},
      {"dimension 1 is 2147483648", [](auto& m) { m.weights[0]->shape[1] = int64_t{1} << 31; }},
      {"more than 281474976710656 elements",
       [](auto& m) {
         m.weights[1]->shape = {kMaxDim, kMaxDim, kMaxDim};
       }},
      {"weight 'norm': 7 dimensions, more than 6",
       [](auto& m) { m.weights[1]->shape.assign(kMaxRank + 1, 1); }},
      {"type q8 is stored in panels only", [](auto& m) { m.weights[0]->layout = fb::Layout::RowMajor; }},
      {"has 2 or 3 dimensions, not 1", [](auto& m) { m.weights[1]->layout = fb::Layout::Panel; }},
      {"type i32 is not stored in panels", [](auto& m) { m.weights[0]->dtype = fb::DType::I32; }},
      {"type 99 is unknown", [](auto& m) { m.weights[0]->dtype = static_cast<fb::DType>(99); }},
  });
}

TEST_CASE("the verifier refuses what breaks its rules: states and values") {
  check_rules({
      {"state 'layers.0.keys' has type q4", [](auto& m) { m.states[0]->dtype = fb::DType::Q4; }},
      {"value 'logits' has type q8", [](auto& m) { method(m).values[3]->dtype = fb::DType::Q8; }},
      {"state 'layers.0.keys' has 7 dimensions, more than 6",
       [](auto& m) { m.states[0]->shape.assign(kMaxRank + 1, fixed(1)); }},
      {"value 'hidden' has 7 dimensions, more than 6",
       [](auto& m) { method(m).values[1]->shape.assign(kMaxRank + 1, symbol(0)); }},
      {"refers to symbol 1, and there are 1", [](auto& m) { m.states[0]->shape[0] = symbol(1); }},
      {"refers to symbol -2", [](auto& m) { m.states[0]->shape[0] = symbol(-2); }},
      {"dimension 1 of state 'layers.0.keys' is 0", [](auto& m) { m.states[0]->shape[1] = fixed(0); }},
      {"is 1099511627777", [](auto& m) { m.states[0]->shape[1] = fixed(kMaxDim + 1); }},
      {"elements at most",
       [](auto& m) {
         m.states[0]->shape = {fixed(int64_t{1} << 39), fixed(int64_t{1} << 39)};
       }},
      {"times 0 divided by 1", [](auto& m) { m.states[0]->shape[0] = fb::Dim(0, 0, 1, 0); }},
      {"times -1 divided by 1", [](auto& m) { m.states[0]->shape[0] = fb::Dim(0, -1, 1, 0); }},
      {"times 1 divided by 0", [](auto& m) { m.states[0]->shape[0] = fb::Dim(0, 1, 0, 0); }},
      {"adds 9223372036854775807",
       [](auto& m) { m.states[0]->shape[0] = fb::Dim(0, 1, 1, std::numeric_limits<int64_t>::max()); }},
      {"adds -9223372036854775808",
       [](auto& m) { m.states[0]->shape[0] = fb::Dim(0, 1, 1, std::numeric_limits<int64_t>::min()); }},
      {"dimension 0 of value 'hidden' refers to symbol 5",
       [](auto& m) { method(m).values[1]->shape[0] = symbol(5); }},
  });
}

TEST_CASE("the verifier refuses what breaks its rules: methods") {
  check_rules({
      {"its inputs refer to value 4, and there are 4", [](auto& m) { method(m).inputs = {4}; }},
      {"its inputs refer to value -1", [](auto& m) { method(m).inputs = {-1}; }},
      {"value 'input_ids' is twice in its inputs",
       [](auto& m) {
         method(m).inputs = {0, 0};
       }},
      {"its outputs refer to value 77", [](auto& m) { method(m).outputs = {77}; }},
      {"value 'logits' is twice in its outputs",
       [](auto& m) {
         method(m).outputs = {3, 3};
       }},
      {"value 'input_ids' is both an input and an output", [](auto& m) { method(m).outputs = {0}; }},
      {"node 'norm' has no operation", [](auto& m) { node(m, 1).args.Reset(); }},
      {"node 'norm': its inputs refer to value 9", [](auto& m) { node(m, 1).inputs = {9}; }},
      {"node 'norm': its inputs refer to value -2", [](auto& m) { node(m, 1).inputs = {-2}; }},
      {"node 'norm': its outputs refer to value -1", [](auto& m) { node(m, 1).outputs = {-1}; }},
      {"node 'norm' refers to weight 3, and there are 3", [](auto& m) { node(m, 1).weights = {3}; }},
      {"node 'norm' refers to weight -2", [](auto& m) { node(m, 1).weights = {-2}; }},
      {"node 'norm' refers to state 1, and there are 1", [](auto& m) { node(m, 1).states = {1}; }},
      {"node 'norm' refers to state -1", [](auto& m) { node(m, 1).states = {-1}; }},
      {"node 'norm' reads value 'logits' before it is written", [](auto& m) { node(m, 1).inputs = {3}; }},
      {"node 'norm' reads value 'normed' before", [](auto& m) { node(m, 1).inputs = {2}; }},
      {"writes value 'hidden', which is an input or was written before",
       [](auto& m) { node(m, 1).outputs = {1}; }},
      {"writes value 'input_ids', which is an input", [](auto& m) { node(m, 1).outputs = {0}; }},
      {"value 'normed' is written by no node",
       [](auto& m) {
         node(m, 1).outputs.clear();
         node(m, 2).inputs = {1};
       }},
      {"node 'embedding' reads value 'hidden' before",  // two nodes that need each other
       [](auto& m) { node(m, 0).inputs = {1}; }},
  });
}

TEST_CASE("the verifier refuses what breaks its rules: text") {
  check_rules({
      {"has no pieces", [](auto& m) { m.tokenizer->pieces.clear(); }},
      {"4 pieces and 3 scores", [](auto& m) { m.tokenizer->scores.pop_back(); }},
      {"4 pieces and 5 kinds", [](auto& m) { m.tokenizer->kinds.push_back(fb::TokenKind::Normal); }},
      {"a unigram tokenizer needs scores",
       [](auto& m) {
         m.tokenizer->kind = fb::TokenizerKind::Unigram;
         m.tokenizer->scores.clear();
       }},
      {"merges are 3 ids", [](auto& m) { m.tokenizer->merges.push_back(0); }},
      {"merge 0 refers to piece 4",
       [](auto& m) {
         m.tokenizer->merges = {0, 4};
       }},
      {"added token 1 is missing", [](auto& m) { m.tokenizer->added_tokens.push_back(nullptr); }},
      {"added token 0 (id 7) has no text", [](auto& m) { m.tokenizer->added_tokens[0]->text = ""; }},
      {"has id 4000000000", [](auto& m) { m.tokenizer->added_tokens[0]->id = 4'000'000'000u; }},
      {"two added tokens have the id 7",
       [](auto& m) {
         auto& tokens = m.tokenizer->added_tokens;
         tokens.push_back(std::make_unique<fb::AddedTokenT>(*tokens[0]));
       }},
      {"bos_id is 4", [](auto& m) { m.tokenizer->bos_id = 4; }},
      {"eos_id is -2", [](auto& m) { m.tokenizer->eos_id = -2; }},
      {"unknown_id is 5", [](auto& m) { m.tokenizer->unknown_id = 5; }},
      {"pad_id is 100", [](auto& m) { m.tokenizer->pad_id = 100; }},
      {"stop id is -1", [](auto& m) { m.tokenizer->stop_ids = {-1}; }},
      {"pre-tokenizer step 1 is missing", [](auto& m) { m.tokenizer->pre_tokenizer.push_back(nullptr); }},
      {"temperature is -1", [](auto& m) { m.sampler->temperature = -1; }},
      {"temperature is nan",
       [](auto& m) { m.sampler->temperature = std::numeric_limits<float>::quiet_NaN(); }},
      {"top_k is -1", [](auto& m) { m.sampler->top_k = -1; }},
      {"top_p is 0", [](auto& m) { m.sampler->top_p = 0; }},
      {"min_p is 2", [](auto& m) { m.sampler->min_p = 2; }},
      {"repetition_penalty is 0", [](auto& m) { m.sampler->repetition_penalty = 0; }},
  });
}

TEST_CASE("what may be absent may be absent") {
  CHECK(verify_error([](auto& m) { m.tokenizer.reset(); }) == "");
  CHECK(verify_error([](auto& m) { m.sampler.reset(); }) == "");
  CHECK(verify_error([](auto& m) { m.tokenizer->scores.clear(); }) == "");
  CHECK(verify_error([](auto& m) { m.tokenizer->kinds.clear(); }) == "");
  CHECK(verify_error([](auto& m) { m.tokenizer->eos_id = -1; }) == "");
  CHECK(verify_error([](auto& m) { node(m, 1).inputs = {1, -1, -1}; }) == "");
  CHECK(verify_error([](auto& m) { m.states[0]->shape.clear(); }) == "");
}

TEST_CASE("sizes of weights") {
  const auto size = [](DType dtype, fb::Layout layout, std::vector<int64_t> shape) {
    return stored_bytes(dtype, layout, shape).value_or(0);
  };
  CHECK(size(DType::kF32, fb::Layout::RowMajor, {}) == 4);
  CHECK(size(DType::kBF16, fb::Layout::RowMajor, {3, 5}) == 30);
  CHECK(size(DType::kQ4, fb::Layout::Panel, {17, 33}) == 4 * 288);
  CHECK(size(DType::kF16, fb::Layout::Panel, {3, 1, 3}) == 3 * 2 * 64);
  // The largest tensors: no product wraps around.
  CHECK(size(DType::kF32, fb::Layout::RowMajor, {int64_t{1} << 40, 256}) == uint64_t{1} << 50);
  CHECK(size(DType::kQ4A, fb::Layout::Panel, {kMaxDim, 1, 1}) == (uint64_t{1} << 40) * 320);
  CHECK(size(DType::kF32, fb::Layout::Panel, {int64_t{1} << 24, int64_t{1} << 24}) == uint64_t{1} << 50);
}

TEST_CASE("the head's numbers are within what the schema and this build know") {
  CHECK(contains(decode_error([](auto& m) { m.weights[1]->dtype = static_cast<fb::DType>(200); }),
                 "model.weights[1].dtype has value 200, and this Linnet knows 19 values"));
  CHECK(
      contains(decode_error([](auto& m) { node(m, 1).args.AsNorm()->kind = static_cast<fb::NormKind>(200); }),
               "model.methods[0].nodes[1].args.kind has value 200"));
  CHECK(contains(decode_error([](auto& m) { m.tokenizer->kinds[2] = static_cast<fb::TokenKind>(6); }),
                 "model.tokenizer.kinds[2] has value 6"));
  CHECK(contains(decode_error([](auto& m) {
                   node(m, 1).args.AsNorm()->epsilon = std::numeric_limits<float>::infinity();
                 }),
                 "model.methods[0].nodes[1].args.epsilon is not a finite number"));
  CHECK(contains(
      decode_error([](auto& m) { m.tokenizer->scores[3] = std::numeric_limits<float>::quiet_NaN(); }),
      "model.tokenizer.scores[3] is not a finite number"));
  fb::SoftmaxAttentionT attention;
  attention.rope = std::make_unique<fb::RotaryEmbeddingT>();
  attention.rope->inverse_frequencies = {1.0f, -std::numeric_limits<float>::infinity()};
  CHECK(contains(decode_error([&](auto& m) { node(m, 2).args.Set(attention); }),
                 "model.methods[0].nodes[2].args.rope.inverse_frequencies[1] is not a finite number"));
  CHECK(contains(decode_error([](auto& m) { m.chat_template.assign(kMaxHeadBytes + 1, ' '); }),
                 "encode: tokenizer"));
}

namespace {

using Builder = flatbuffers::FlatBufferBuilder;

std::string finished_error(Builder& builder, flatbuffers::Offset<fb::Model> root) {
  fb::FinishModelBuffer(builder, root);
  const auto result = decode_head(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
  return result ? "" : result.error().message;
}

}  // namespace

TEST_CASE("an op of a later version is named as such") {
  Builder builder;
  const auto args = fb::CreateEmbedding(builder);
  const auto node =
      fb::CreateNode(builder, builder.CreateString("n"), static_cast<fb::OpArgs>(250), args.Union());
  const auto nodes = builder.CreateVector(std::vector{node});
  const auto method = fb::CreateMethod(builder, builder.CreateString("m"), 0, 0, 0, nodes);
  const auto methods = builder.CreateVector(std::vector{method});
  fb::ModelBuilder model(builder);
  model.add_methods(methods);
  CHECK(contains(finished_error(builder, model.Finish()), "model.methods[0].nodes[0].args has kind 250"));
}

TEST_CASE("a head whose parts are shared is refused before it is unpacked") {
  SUBCASE("one string a hundred thousand times: 10 GB from 500 kB") {
    Builder builder;
    const auto piece = builder.CreateString(std::string(100'000, 'x'));
    const auto pieces = builder.CreateVector(std::vector(100'000, piece));
    const auto tokenizer = fb::CreateTokenizer(builder, fb::TokenizerKind::ByteLevelBpe, pieces);
    fb::ModelBuilder model(builder);
    model.add_tokenizer(tokenizer);
    CHECK(contains(finished_error(builder, model.Finish()), "is shared with other parts"));
  }
  SUBCASE("one table in many vectors, each in many methods") {
    Builder builder;
    const auto name = builder.CreateString("n");
    const auto value = fb::CreateValue(builder, name, fb::DType::F32,
                                       builder.CreateVectorOfStructs(std::vector<fb::Dim>(8, fixed(1))));
    const auto values = builder.CreateVector(std::vector(1000, value));
    const auto method = fb::CreateMethod(builder, name, values);
    const auto methods = builder.CreateVector(std::vector(1000, method));
    fb::ModelBuilder model(builder);
    model.add_methods(methods);
    CHECK(contains(finished_error(builder, model.Finish()), "is shared with other parts"));
  }
  SUBCASE("more tables than any model has") {
    Builder builder;
    const auto symbol = fb::CreateSymbol(builder, builder.CreateString("s"));
    const auto symbols = builder.CreateVector(std::vector(3'000'000, symbol));
    fb::ModelBuilder model(builder);
    model.add_symbols(symbols);
    CHECK(contains(finished_error(builder, model.Finish()), "its structure leads outside"));
  }
}

TEST_CASE("a vector of wide elements at an odd place is refused") {
  // A vector of 32-bit numbers passed off as one of 64-bit numbers: of two neighbouring places one is wrong.
  size_t misaligned = 0;
  for (const char* text : {"w", "wwwww"}) {  // what is built later lies before, and moves it by 4
    Builder builder;
    builder.CreateString(std::string(100, 'x'));  // lies after the vector, so that it ends inside the buffer
    const auto shape = builder.CreateVector(std::vector<uint32_t>(3, 1));
    const auto name = builder.CreateString(text);
    fb::WeightBuilder weight(builder);
    weight.add_name(name);
    weight.add_shape(flatbuffers::Offset<flatbuffers::Vector<int64_t>>(shape.o));
    const auto weights = builder.CreateVector(std::vector{weight.Finish()});
    fb::ModelBuilder model(builder);
    model.add_weights(weights);
    misaligned += contains(finished_error(builder, model.Finish()), "model.weights[0].shape is misaligned");
  }
  CHECK(misaligned == 1);
}
