// One harness for every op: a model of a single node is built in memory and run through the Engine on the
// reference backend and on the CPU backend with every instruction set this machine has.
//
//   TEST_CASE("my_op: like the reference") {
//     check_op(12, [](OpBuilder& op, Random& random) {           // 12 seeds: 12 random shapes and data
//       const int64_t heads = random.pick(1, 4), k = random.choice({16, 24, 64});
//       fb::MyOpT args;
//       args.heads = static_cast<int32_t>(heads);
//       op.args(args);
//       op.input({kTokens, heads * k});                           // f32, uniform in [-1, 1)
//       op.input({kTokens, heads}, uniform(-8, 0));               // other data
//       op.absent_input();                                        // an optional operand left out
//       op.vector({heads * k}, uniform(0.5f, 1.5f));              // row-major f32 weight
//       op.matrix(DType::kQ8, 48, heads * k);                     // weight in panels
//       op.state(fb::StateRole::Recurrent, {heads, k, k});
//       op.output({kTokens, heads * k});
//     });
//   }
//
// Operands are numbered in the order of the calls, as the op's rule in runtime/graph/rules_*.cc lists them.
// For each seed (under the sanitizers a third of them) check_op() draws a number of tokens and checks, naming
// seed, target, threads, output and element where it fails:
//   - the truth, which is what the reference gives in one call: finite, and no output or state zero
//   throughout
//     (unless the case says states_may_be_zero());
//   - the reference: the sequence in one call, in uneven pieces and token by token agree (if every output
//     begins with kTokens), states and positions included;
//   - every host backend, the CPU's with every target: equal to the reference within the tolerance; the same
//   in one call, in pieces and
//     token by token; and 1 and 2 (once 3) threads equal bit for bit in each of these;
//   - every device backend, where there is a device (tests/ops/tested_backends.h): the first seeds equal
//     to the reference within the tolerance, in one call and in pieces, and the validation layer silent.
// run_op() runs a case once and returns its outputs, for closed-form expectations and golden files.
// A NaN or an infinity on either side is a failure, but for check_op_equals() with Truth::kAsGiven.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace linnet::testing {

// Deterministic on every platform (splitmix64), unlike the distributions of <random>.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t next();
  int64_t pick(int64_t least, int64_t most);  // both included
  float uniform(float low, float high);
  float normal();
  bool chance(double probability) { return uniform(0, 1) < static_cast<float>(probability); }
  template <typename T>
  T choice(std::initializer_list<T> items) {
    return items.begin()[pick(0, static_cast<int64_t>(items.size()) - 1)];
  }
  int64_t choice(std::initializer_list<int> items) { return choice<int>(items); }

 private:
  uint64_t state_;
};

// Fills a tensor's values.
using Fill = std::function<void(Random&, std::span<float>)>;
Fill uniform(float low, float high);
Fill normal(float scale = 1);
Fill exactly(std::vector<float> values);  // for golden and hand-computed cases

// One dimension of a value or state: a number, or a symbol times `factor`. kTokens must be the first
// dimension.
struct Extent {
  Extent(int64_t n) : value(n) {}  // NOLINT: {kTokens, 64} is the point
  Extent(int n) : value(n) {}
  explicit Extent(std::string name, int times = 1) : factor(times), symbol(std::move(name)) {}
  int64_t value = 0;
  int factor = 1;
  std::string symbol;
};
extern const Extent kTokens;   // the tokens of one run
extern const Extent kContext;  // the bound of a full attention cache

struct OpCase;

class OpBuilder {
 public:
  OpBuilder(Random& random, int64_t tokens);
  ~OpBuilder();

  int64_t tokens() const;  // of the whole sequence; may be replaced
  void set_tokens(int64_t tokens);
  template <typename Args>
  void args(const Args& value) {
    node().args.Set(Args(value));
  }
  // Inputs that begin with kTokens are fed piece by piece, all others whole at every run.
  void input(std::vector<Extent> shape, const Fill& fill = uniform(-1, 1));
  void input_ids(int64_t below);  // i32 [tokens], each in [0, below)
  void input_ids(std::vector<int32_t> ids);
  void absent_input();
  void matrix(DType dtype, int64_t n, int64_t k, const Fill& fill = uniform(-1, 1));
  // [experts, n, k] in panels.
  void matrices(DType dtype, int64_t experts, int64_t n, int64_t k, const Fill& fill = uniform(-1, 1));
  void vector(std::vector<int64_t> shape, const Fill& fill = uniform(-1, 1));
  void absent_weight();
  void state(fb::StateRole role, std::vector<Extent> shape, float initial = 0);
  void initial_state(size_t index, const Fill& fill);  // f32 states only: what the first call finds
  void output(std::vector<Extent> shape);
  // A symbol beside kTokens and kContext, its value and (if it is larger) its bound.
  void symbol(const std::string& name, int64_t value, int64_t bound = 0);
  // Engine options: attention bounds and cache precision. symbols and threads are the harness's.
  EngineOptions& options();
  // What the packed weight `index` holds, row-major [n, k], after rounding to its dtype.
  std::vector<float> stored_matrix(size_t index) const;
  std::span<const float> input_values(size_t index) const;
  size_t weight_count() const;  // present weights so far

  // Allowed |y - reference| of every element of an output is `scale` times the output's largest magnitude
  // plus `absolute`. The default is for f32 arithmetic with sums of some hundred terms. Bounds are some ten
  // times what LINNET_TEST_REACHED (tests/compare.h) finds with AVX2 and the portable target; other vectors
  // add up in another order, which changes an error by less than that.
  void tolerance(double scale, double absolute = 1e-7);
  void state_tolerance(double scale);  // where it is not that of the outputs
  // Instead: the allowance of one element, such as a bound derived from the rounding of activations.
  void tolerance(std::function<double(size_t output, size_t element)> allowed);
  // Whether one call, pieces and single tokens must agree bit for bit on the CPU (default: within the
  // tolerance).
  void exact_pieces();
  // The right states may be zero throughout: nothing has left the window yet.
  void states_may_be_zero();

  std::shared_ptr<const OpCase> finish();

 private:
  fb::NodeT& node();
  std::vector<fb::Dim> dims(const std::vector<Extent>& shape) const;
  size_t add_value(const char* what, DType dtype, const std::vector<Extent>& shape);
  void add_input(DType dtype, const std::vector<Extent>& shape, std::vector<std::byte> bytes);
  void add_weight(DType dtype, fb::Layout layout, std::vector<int64_t> shape, const Fill& fill);
  std::unique_ptr<OpCase> case_;
  Random& random_;
};

// One vector per output, the pieces' rows one after another, and the f32 and f16 states after the last piece
// (empty for q8).
struct OpRun {
  std::vector<std::vector<float>> outputs, states;
};
// Runs a case with the sequence cut into `pieces` (empty: one call) on a fresh engine. A failure to build or
// run is a doctest failure.
OpRun run_op(const OpCase& op, const Backend& backend, int threads = 1,
             const std::vector<int64_t>& pieces = {});
// The reference and every form of the host backends.
std::vector<const Backend*> all_backends();

using BuildOp = std::function<void(OpBuilder&, Random&)>;
// A case for run_op(), from one seed.
std::shared_ptr<const OpCase> make_op(const BuildOp& build, uint64_t seed = 1, int64_t tokens = 1);

// Compares all outputs with hand-computed or official ones: every backend, every target, Vulkan.
enum class Truth {
  kFinite,   // and no output zero throughout, or the test fails
  kAsGiven,  // zeros are meant, a NaN is met by a NaN and an infinity by the same infinity
};
void check_op_equals(const OpCase& op, const std::vector<std::vector<float>>& expected, double tolerance,
                     Truth truth = Truth::kFinite);

// The outputs and the listed states of one run against official ones, on every backend, in one call and (if
// every output begins with kTokens) token by token. `tolerance`: the largest distance of an element. Empty:
// not compared.
void check_op_golden(const OpCase& op, const std::vector<std::vector<float>>& outputs,
                     const std::vector<std::vector<float>>& states, double tolerance,
                     const std::string& what = "");
// Outputs and states that are not empty are finite; for inputs out of any range.
void check_finite(const OpCase& op);

struct CheckOptions {
  int64_t most_tokens = 70;
  uint64_t first_seed = 1;
};
void check_op(int seeds, const BuildOp& build, const CheckOptions& options = {});

// Error message of Engine::create, empty if it succeeds: for tests of shape rules.
std::string creation_error(const OpCase& op, const Backend& backend);

}  // namespace linnet::testing
